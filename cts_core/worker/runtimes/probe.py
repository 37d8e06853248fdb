"""Checks whether a container runtime works here, by running a container of a tiny image made for it."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import tarfile
import tempfile
import time
import uuid
from dataclasses import dataclass
from typing import Sequence

from cts_core.worker.container_folder import INPUTS, OUTPUTS, STREAMS, ContainerFolder
from cts_core.worker.plan import WorkerPlan
from cts_core.worker.runtimes import command as cli
from cts_core.worker.runtimes.apptainer import exec_command, image_file
from cts_core.worker.runtimes.base import ContainerRuntimeError
from cts_core.worker.runtimes.docker import DockerContainer

IMAGE_RUNTIMES = ("docker", "podman", "apptainer")
"""In the order of preference."""
PROBE_SECONDS = 60.0
"""The timeout for each command of a probe, and for its container."""
_MEMORY = 64 << 20
_PROGRAM = "probe"
_MOUNT_FOLDERS = ("dev", "proc", "sys", "etc", "tmp", "var/tmp", "root", "home")
# A program that only calls exit(0), for Linux, without any library.
_CODE = {
    "x86_64": (62, bytes.fromhex("31ffb83c0000000f05")),
    "aarch64": (183, struct.pack("<III", 0xD2800BA8, 0xD2800000, 0xD4000001)),
}
_ALIASES = {"amd64": "x86_64", "arm64": "aarch64"}
_BASE = 0x400000
_HEADERS = 64 + 56
_VERSION = {
    "docker": ("version", "--format", "{{.Server.Version}}"),
    "podman": ("version", "--format", "{{.Client.Version}}"),
    "apptainer": ("version",),
}


@dataclass(frozen=True)
class WorkingRuntime:
    """A runtime that works, and its version."""

    name: str
    command: list[str]
    version: str


def probe(
    name: str,
    command: Sequence[str],
    arguments: Sequence[str],
    *,
    network: bool,
    folder: str,
) -> WorkingRuntime:
    """Run a container below ``folder``, with an operator's arguments. Raises ContainerRuntimeError with the reason."""
    if shutil.which(command[0]) is None:
        raise ContainerRuntimeError(f"it is not installed: there is no program {command[0]}")
    version = cli.run([*command, *_VERSION[name]], timeout=PROBE_SECONDS)
    if version.code:
        raise ContainerRuntimeError(f"it gives no answer: {version.message}")
    machine = os.uname().machine
    code = _CODE.get(_ALIASES.get(machine, machine))
    if code is not None:
        with tempfile.TemporaryDirectory(prefix="probe-", dir=folder) as scratch:
            plan = _plan(name, list(command), list(arguments), scratch, network=network)
            _run_probe(plan, ContainerFolder(os.path.join(scratch, "0")), _elf(*code))
    return WorkingRuntime(name, list(command), version.out.strip().rpartition(" ")[2])


def _elf(machine: int, code: bytes) -> bytes:
    """Return an ELF executable with one segment."""
    size = _HEADERS + len(code)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        *(b"\x7fELF\x02\x01\x01" + bytes(9), 2, machine, 1),
        *(_BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0),
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return header + segment + code


def _plan(
    name: str, command: list[str], arguments: list[str], scratch: str, *, network: bool
) -> WorkerPlan:
    tag = f"probe/{uuid.uuid4().hex}"
    return WorkerPlan(
        tag=tag,
        entrypoint=[f"/{_PROGRAM}"],
        arguments=[],
        environment={},
        program_file="",
        digest="",
        inputs=[],
        input_mount="/input_files",
        output_mount="/output_files",
        objects_root="",
        output_dir="",
        log_paths={},
        memory=_MEMORY,
        runtime=PROBE_SECONDS,
        stop_grace=0.0,
        log_limit=0,
        container_runtime=name,
        runtime_command=command,
        runtime_arguments=arguments,
        image=f"localhost/cts-{tag}:0",
        image_folder=scratch,
        network=network,
    )


def _run_probe(plan: WorkerPlan, folder: ContainerFolder, program: bytes) -> None:
    for name in (folder.path, folder.file(INPUTS), folder.file(OUTPUTS)):
        os.mkdir(name)
    if plan.container_runtime == "apptainer":
        _probe_apptainer(plan, folder, program)
    else:
        _probe_docker(plan, folder, program)


def _probe_apptainer(plan: WorkerPlan, folder: ContainerFolder, program: bytes) -> None:
    # A folder serves as an image, too, if it has the mount points.
    for map_paths in _MOUNT_FOLDERS:
        os.makedirs(os.path.join(image_file(plan), map_paths))
    _write(os.path.join(image_file(plan), _PROGRAM), program)
    # Not an ApptainerContainer, which takes all descendants of this process for its own: this may be a server.
    result = cli.run(exec_command(plan, folder), timeout=PROBE_SECONDS)
    if result.code:
        raise ContainerRuntimeError(f"it cannot run a container: {result.message}")


def _probe_docker(plan: WorkerPlan, folder: ContainerFolder, program: bytes) -> None:
    _import_image(plan, program)
    container = DockerContainer(plan, folder)
    try:
        container.prepare(time.sleep)
        process = container.start(time.sleep)
        try:
            _, message = process.communicate(timeout=PROBE_SECONDS)
        except subprocess.TimeoutExpired:
            raise ContainerRuntimeError(
                f"a container that does nothing did not end in {PROBE_SECONDS:g} seconds"
            ) from None
        with open(folder.file(f"{STREAMS[1]}.txt"), "wb") as log:
            log.write(message)
        ended = container.describe_exit(process.returncode)
        if ended.code != 0:
            reason = ended.reason or cli.tail(message.decode(errors="replace"))
            raise ContainerRuntimeError(f"it cannot run a container: {reason}")
    finally:
        container.remove()
        cli.run([*plan.runtime_command, "rmi", plan.image])


def _write(path: str, program: bytes) -> None:
    with open(path, "wb") as file:
        file.write(program)
    os.chmod(path, 0o755)  # noqa: S103 - any user of the image must be able to execute it


def _import_image(plan: WorkerPlan, program: bytes) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo(_PROGRAM)
        entry.size, entry.mode = len(program), 0o755
        tar.addfile(entry, io.BytesIO(program))
    result = cli.run(
        [*plan.runtime_command, "import", "-", plan.image],
        timeout=PROBE_SECONDS,
        stdin=archive.getvalue(),
    )
    if result.code:
        raise ContainerRuntimeError(f"it cannot make an image: {result.message}")
