"""Docker, with a daemon and a store of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.services.containers import ULIMITS, Engine, install, libraries, unmount, write_program
from tests.services.server import MissingError, ServerProcess, skip_without

__all__ = ["docker", "install"]


@pytest.fixture(scope="session")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Docker, with a daemon and a store of its own."""
    folder = tmp_path_factory.mktemp("docker")
    try:
        root = install()
    except MissingError as e:
        skip_without(e)
        raise
    path = f"{root}/usr/bin:{root}/usr/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
    variables = {"PATH": path, "LD_LIBRARY_PATH": libraries(root)}
    address = f"unix://{folder}/socket"
    engine = Engine("docker", [str(root / "usr/bin/docker"), "--host", address])

    def is_ready() -> bool:
        version = [*engine.command, "version"]
        return subprocess.run(version, capture_output=True, check=False).returncode == 0

    words = [
        *("dockerd", "--host", address, "--pidfile", folder / "pid"),
        *("--data-root", folder / "data", "--exec-root", folder / "exec"),
        *("--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs"),
        *(
            "--exec-opt",
            "native.cgroupdriver=cgroupfs",
            "--init-path",
            root / "usr/bin/docker-init",
        ),
    ]
    daemon = ServerProcess(
        write_program(
            folder / "daemon", variables, [*words, *(f"--default-ulimit={u}" for u in ULIMITS)]
        ),
        folder,
        is_ready,
    )
    daemon.start()
    yield engine
    if names := engine.containers():
        engine.run("rm", "--force", *names)
    daemon.stop()
    unmount(folder)
