"""Podman, with a store of its own."""

from __future__ import annotations

import json
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
from tests.services.server import or_skip

__all__ = ["install", "podman"]


def _podman(folder: Path) -> ContainerRuntime:
    root = install()
    store, run = folder / "store", folder / "run"
    storage = folder / "storage.conf"
    storage.write_text(f'[storage]\ndriver = "vfs"\nrunroot = "{run}"\ngraphroot = "{store}"\n')
    # conmon, which cleans up after a container, gets no other variables.
    variables = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LD_LIBRARY_PATH": libraries(root),
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(storage),
        "CONTAINERS_REGISTRIES_CONF": "/dev/null",
    }
    environment = json.dumps([f"{name}={value}" for name, value in variables.items()])
    conmon = json.dumps([str(root / "usr/bin/conmon")])
    (folder / "containers.conf").write_text(
        f'[containers]\nseccomp_profile = "{root}/usr/share/containers/seccomp.json"\n'
        f"[engine]\nconmon_path = {conmon}\nconmon_env_vars = {environment}\n"
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
    return ContainerRuntime("podman", command, [f"--ulimit={limit}" for limit in ULIMITS])


@pytest.fixture(scope="session")
def podman() -> Iterator[ContainerRuntime]:
    """Set up Podman with a store of its own."""
    with runtime_folder("podman") as folder:
        with or_skip():
            runtime = _podman(folder)
        yield runtime
        runtime.run("rm", "--all", "--force")
