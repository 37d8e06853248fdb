"""The service's image, built of ``deploy/Containerfile`` by buildah on a base of Debian's packages.

No base image is pulled. pip and uv in the build ask the index that those of this machine ask.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from typing_extensions import override

from tests.harness.paths import ROOT
from tests.services.containers import ContainerRuntime
from tests.services.containers import install as install_runtimes
from tests.services.cts import CTSProcess
from tests.services.server import install_folder, or_skip
from tests.services.sid import install_root, run

CONTAINERFILE = ROOT / "deploy" / "Containerfile"
IMAGE = "localhost/cts:tested"
STOP_SECONDS = 60
"""How long a container may take to stop, as in the composition."""
_BASE = "localhost/base:tested"
_PACKAGES = ("python3", "python3-venv", "python-is-python3", "ca-certificates")
_OF_THIS_MACHINE = {
    "/etc/ssl/certs": "/etc/ssl/certs",
    "/etc/pip.conf": "/etc/pip.conf",
    "~/.config/pip/pip.conf": "/root/.config/pip/pip.conf",
    "/etc/uv/uv.toml": "/etc/uv/uv.toml",
    "~/.config/uv/uv.toml": "/root/.config/uv/uv.toml",
}
"""What the build sees of this machine's configuration, and where."""


def install() -> Path:
    """Return the archive of the base image's files. Raises MissingError."""
    with install_folder("cts-image") as folder:
        archive = folder / "base.tar"
        if not archive.exists():
            if not (folder / "root").exists():
                install_root(folder, *_PACKAGES)
            new = folder / "base.tar.new"
            run(["tar", "--create", "--file", str(new), "--directory", str(folder / "root"), "."])
            new.rename(archive)
            shutil.rmtree(folder / "root")
        return archive


def _arguments() -> list[str]:
    declared = re.findall(r"(?m)^ARG (\w+)$", CONTAINERFILE.read_text())
    mounts = {Path(here).expanduser(): there for here, there in _OF_THIS_MACHINE.items()}
    return [
        *(f"--build-arg={name}={os.environ[name]}" for name in declared if name in os.environ),
        *(f"--volume={here}:{there}:ro" for here, there in mounts.items() if here.exists()),
    ]


def build(podman: ContainerRuntime) -> str:
    """Build the image in Podman's store; return its name. Raises MissingError."""
    podman.run("import", str(install()), _BASE)
    with install_folder("cts-image") as folder:
        # What uv has downloaded is kept here.
        temporary = folder / "tmp"
        temporary.mkdir(exist_ok=True)
    runc = install_runtimes() / "usr/sbin/runc"
    command = [
        str(Path(podman.command[0]).with_name("buildah")),
        *("build", "--format=docker", "--isolation=oci", f"--runtime={runc}", "--network=host"),
        *(f"--file={CONTAINERFILE}", f"--tag={IMAGE}", f"--build-arg=BASE={_BASE}"),
        *_arguments(),
        str(ROOT),
    ]
    done = subprocess.run(
        command,
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return IMAGE


class CTSContainer(CTSProcess):
    """A server process of a service in a container of its image, as ``deploy/compose.yaml`` runs it."""

    def __init__(
        self,
        folder: Path,
        environ: Mapping[str, str],
        podman: ContainerRuntime,
        volumes: Mapping[Path, str],
        *arguments: str,
    ) -> None:
        super().__init__(folder, {})
        self.name = f"cts-{folder.name}"
        self._podman = podman
        self._arguments = arguments
        folder.mkdir(parents=True)
        file = folder / "cts.env"
        file.write_text("".join(f"{name}={value}\n" for name, value in environ.items()))
        self._options = [
            *("run", "--replace", f"--name={self.name}", "--network=host", f"--env-file={file}"),
            *("--read-only", "--tmpfs=/tmp", "--volume=/var/lib/cts"),
            *("--cap-drop=ALL", "--security-opt=no-new-privileges", "--health-interval=disable"),
            *podman.arguments,
            *(f"--volume={here}:{there}" for here, there in volumes.items()),
        ]

    @override
    def program(self, port: int) -> Sequence[str]:
        options = [*self._options, f"--env=JUPYTER_PORT={port}"]
        return [*self._podman.command, *options, IMAGE, *self._arguments]

    @override
    def stop(self) -> None:
        """Have Podman terminate the server, and wait for it. What is left of containers goes with Podman's store."""
        if self.process is not None:
            self._podman.run("stop", f"--time={STOP_SECONDS}", "--ignore", self.name)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_SECONDS)
        super().stop()

    def run(self, *command: str) -> str:
        """Run a command in the container; return its output."""
        return self._podman.run("exec", self.name, *command)


@pytest.fixture(scope="session")
def cts_image(podman: ContainerRuntime) -> str:
    """Build the image; return its name."""
    with or_skip():
        return build(podman)
