"""Podman, with a store of its own, and buildah on the same store."""

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
from tests.services.debian import unpack
from tests.services.server import install_folder, or_skip

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
    variables["HOME"] = str(folder)
    write_program(folder / "buildah", variables, _buildah(root, store, run))
    command = write_program(folder / "podman", variables, words)
    return ContainerRuntime("podman", command, [f"--ulimit={limit}" for limit in ULIMITS])


def _buildah(root: Path, store: Path, run: Path) -> list[object]:
    """Return the command of buildah, whose containers runc runs in the network of this machine."""
    with install_folder("buildah") as folder:
        program = folder / "usr/bin/buildah"
        if not program.exists():
            unpack(folder, folder, "buildah")
    return [program, "--root", store, "--runroot", run, "--storage-driver", "vfs"]


@pytest.fixture(scope="session")
def podman() -> Iterator[ContainerRuntime]:
    """Set up Podman with a store of its own."""
    with runtime_folder("podman") as folder:
        with or_skip():
            runtime = _podman(folder)
        yield runtime
        runtime.run("rm", "--all", "--force")
