"""Docker, with a daemon and a store of its own."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.containers import (
    ULIMITS,
    ContainerRuntime,
    install,
    libraries,
    runtime_folder,
    write_program,
)
from tests.services.server import STOP_SECONDS, ServerProcess, or_skip

__all__ = ["docker", "install"]


@contextlib.contextmanager
def _daemon(root: Path, folder: Path) -> Iterator[ContainerRuntime]:
    path = f"{root}/usr/bin:{root}/usr/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
    variables = {"PATH": path, "LD_LIBRARY_PATH": libraries(root)}
    address = f"unix://{folder}/socket"
    command = [str(root / "usr/bin/docker"), "--host", address]
    runtime = ContainerRuntime("docker", command, environ={"DOCKER_HOST": address})

    def is_ready() -> bool:
        version = [*runtime.command, "version"]
        return subprocess.run(version, capture_output=True, check=False).returncode == 0

    words = [
        *("dockerd", "--host", address, "--pidfile", folder / "pid"),
        *("--data-root", folder / "data", "--exec-root", folder / "exec"),
        *("--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs"),
        *("--exec-opt", "native.cgroupdriver=cgroupfs"),
        *(f"--default-ulimit={limit}" for limit in ULIMITS),
    ]
    server = ServerProcess(write_program(folder / "daemon", variables, words), folder, is_ready)
    server.start()
    try:
        yield runtime
        if names := runtime.containers():
            runtime.run("rm", "--force", *names)
    finally:
        if server.process is not None:
            # SIGTERM goes to the daemon alone, which stops its children: sent to all, the daemon would wait for them.
            server.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.process.wait(STOP_SECONDS)
        server.kill()


@pytest.fixture(scope="session")
def docker() -> Iterator[ContainerRuntime]:
    """Start Docker with a daemon and a store of its own."""
    with or_skip():
        root = install()
    with runtime_folder("docker") as folder, _daemon(root, folder) as runtime:
        yield runtime
