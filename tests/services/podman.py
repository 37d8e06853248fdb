"""Podman, with a store of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.containers import (
    ULIMITS,
    Engine,
    engine_folder,
    install,
    libraries,
    write_program,
)
from tests.services.server import or_skip

__all__ = ["install", "podman"]


def _podman(folder: Path) -> Engine:
    root = install()
    store, run = folder / "store", folder / "run"
    storage = folder / "storage.conf"
    storage.write_text(f'[storage]\ndriver = "vfs"\nrunroot = "{run}"\ngraphroot = "{store}"\n')
    # What it leaves behind to clean up after a container finds nothing but these.
    variables = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LD_LIBRARY_PATH": libraries(root),
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(storage),
        "CONTAINERS_REGISTRIES_CONF": "/dev/null",
    }
    kept = json.dumps([f"{name}={value}" for name, value in variables.items()])
    conmon = json.dumps([str(root / "usr/bin/conmon")])
    (folder / "containers.conf").write_text(
        f'[containers]\nseccomp_profile = "{root}/usr/share/containers/seccomp.json"\n'
        f"[engine]\nconmon_path = {conmon}\nconmon_env_vars = {kept}\n"
    )
    policy = folder / ".config/containers/policy.json"
    policy.parent.mkdir(parents=True)
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    words = [
        *(root / "usr/bin/podman", "--root", store, "--runroot", run, "--tmpdir", run),
        *("--runtime", root / "usr/sbin/runc", "--cgroup-manager", "cgroupfs"),
        *("--events-backend", "file", "--storage-driver", "vfs"),
    ]
    command = write_program(folder / "podman", {**variables, "HOME": str(folder)}, words)
    return Engine("podman", command, [f"--ulimit={limit}" for limit in ULIMITS])


@pytest.fixture(scope="session")
def podman() -> Iterator[Engine]:
    """Podman, with a store of its own."""
    with engine_folder("podman") as folder:
        with or_skip():
            engine = _podman(folder)
        yield engine
        engine.run("rm", "--all", "--force")
