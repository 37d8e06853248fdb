"""The images that the local site can run: programs of this machine, and images of registries by a container runtime."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path

from cts_core.config.sections import LocalSettings
from cts_core.errors import (
    ConfigError,
    IllegalParameterError,
    ResourceUnavailableError,
    UnsupportedError,
)
from cts_core.images.names import HOST_PREFIX
from cts_core.images.programs import check_program, program_file
from cts_core.model.image import JobImage
from cts_core.model.parameters import Parameters
from cts_core.sites.worker_plan import ImagePlan
from cts_core.worker.runtimes import sandbox
from cts_core.worker.runtimes.base import ContainerRuntimeError
from cts_core.worker.runtimes.probe import IMAGE_RUNTIMES, WorkingRuntime, probe

_JUPYTER_FOLDERS = [
    f"{prefix}/etc/jupyter" for prefix in ("/usr", "/usr/local", sys.base_prefix, sys.prefix)
]
"""The configuration of Jupyter servers, which may hold secrets, in folders that programs see."""
_RETRY_SECONDS = 30.0
"""Before the runtimes are probed again after none worked."""
ISOLATION = (
    "Runs programs of this machine as the user who runs the server. It isolates nothing: a program can read "
    "and write what that user can."
)
SANDBOX = (
    "Runs programs of this machine by bubblewrap: a program sees the system's folders, those of its container and "
    "those that the operator names, and none of the server's files and processes."
)
NOT_LINUX = (
    "On this system, limits and cancels reach the processes of a program's own group only: one that leaves it "
    "is neither counted nor stopped."
)
NO_MOUNTS = (
    "Programs find no folders at the mount points here: where an argument or a variable names one, they are given the path of "
    "the job's own folder, which differs from job to job, and so may results in which it stands. Where bubblewrap works (apt install "
    "bubblewrap, on Linux), they find the folders at the mount points."
)
APPTAINER = "Apptainer runs an image as the user who runs the server, in namespaces of its own but for the network."


class LocalImages:
    """Checks and plans images; the runtime is probed when it is first needed, and remembered."""

    def __init__(
        self,
        root: Path,
        settings: LocalSettings,
        *,
        plain_http: Sequence[str] = (),
        takes_programs: bool = True,
        private_folders: Sequence[Path] | None = None,
        pool: Executor,
    ) -> None:
        """Configure it: ``plain_http`` are registries reached by HTTP, ``takes_programs`` allows programs of this machine.

        With ``private_folders``, programs are isolated from those and from the server.
        """
        self._root = root
        self._settings = settings
        self._plain_http = frozenset(plain_http)
        self._takes_programs = takes_programs
        self._private_folders = private_folders
        self._pool = pool
        self._working: WorkingRuntime | None = None
        self._has_namespace = False
        self._failures: Mapping[str, str] = {}
        self._probed_at = float("-inf")
        self._probing = asyncio.Lock()

    @property
    def _candidates(self) -> Sequence[str]:
        choice = self._settings.runtime
        return {"auto": IMAGE_RUNTIMES, "none": ()}.get(choice, (choice,))

    @property
    def _visible_folders(self) -> list[str]:
        return [sys.base_prefix, sys.prefix, *self._settings.program_folders]

    async def open(self) -> None:
        """Find out how programs can run. Raises ConfigError if they are to be isolated and cannot be."""
        if not self._takes_programs:
            return
        loop = asyncio.get_running_loop()
        if self._private_folders is None:
            if self._settings.mount_namespace:
                fault = await loop.run_in_executor(self._pool, sandbox.find_namespace_fault)
                self._has_namespace = fault is None
            return
        private = list(map(str, self._private_folders))
        overlap = await loop.run_in_executor(
            self._pool, sandbox.find_overlap, self._visible_folders, private
        )
        if overlap is not None:
            raise ConfigError(
                f"local.shared: programs need the folder {overlap[0]}, and what lies in {overlap[1]} is hidden from them: "
                "move one of the two"
            )
        fault = await loop.run_in_executor(self._pool, sandbox.find_fault)
        if fault is not None:
            raise ConfigError(
                "local.shared: programs that several users may run are isolated by bubblewrap, which does not work "
                f"here ({fault}); install it (apt install bubblewrap, on Linux), or take local.shared out and set local.runtime to docker "
                "or podman for images of registries alone"
            )

    async def check(self, params: Parameters, image: JobImage) -> list[str]:
        """Return notes on running this image here. Raises UnsupportedError, IllegalParameterError, ImageFetchError."""
        if image.name.startswith(HOST_PREFIX):
            if not self._takes_programs:
                raise UnsupportedError(
                    f"{image.name} is a program of the service's machine, and this service lets several people in: "
                    "it runs images of registries alone"
                )
            self._check_variables(params, image)
            await check_program(image)
            return self._program_notes()
        runtime = await self._runtime()
        if runtime is None:
            raise UnsupportedError(
                f"The site local cannot run the image {image.name}: {self._failure_message()}"
            )
        return [APPTAINER] if runtime.name == "apptainer" else []

    async def plan_image(self, params: Parameters, image: JobImage) -> ImagePlan:
        """Plan how a worker runs the image.

        Raises IllegalParameterError, ImageFetchError, and ResourceUnavailableError when nothing can now.
        """
        if image.name.startswith(HOST_PREFIX):
            self._check_variables(params, image)
            file = await program_file(image.entrypoint)
            if self._private_folders is None:
                return ImagePlan(program_file=file, mount_namespace=self._has_namespace)
            return ImagePlan(
                program_file=file,
                network=self._settings.network == "own",
                visible_folders=self._visible_folders,
                hidden_folders=[*map(str, self._private_folders), *_JUPYTER_FOLDERS],
            )
        runtime = await self._runtime()
        if runtime is None:
            raise ResourceUnavailableError(
                f"The site local cannot run the image {image.name} now: {self._failure_message()}"
            )
        return ImagePlan(
            container_runtime=runtime.name,
            runtime_command=runtime.command,
            runtime_arguments=self._settings.runtime_arguments,
            image=f"{image.name}@{image.digest}",
            image_folder=str(self._root / "images"),
            plain_http=image.name.partition("/")[0] in self._plain_http,
            network=self._settings.network == "own",
        )

    def _check_variables(self, params: Parameters, image: JobImage) -> None:
        """Refuse variables that a program shared by several users was not registered with.

        One such as LD_PRELOAD or PYTHONPATH would have it run what the user wrote.
        """
        if self._private_folders is None:
            return
        refused = sorted(set(params.environment or ()) - set(image.variables or ()))
        if refused:
            allowed = ", ".join(image.variables or ()) or "none"
            raise IllegalParameterError(
                f"Jobs of {image.name} may not set the variable {', '.join(refused)} here, where several users run it "
                f"(allowed: {allowed}): take it out, or ask an admin to register the program with that variable"
            )

    async def notes(self) -> list[str]:
        """Return the site's notes on itself: whether a configured runtime works, or which one ``auto`` found, once it has."""
        notes = self._program_notes() if self._takes_programs else []
        runtime = self._working
        if self._settings.runtime not in ("auto", "none"):
            runtime = await self._runtime()
        if runtime is not None:
            notes.append(f"Runs images of registries by {runtime.name} {runtime.version}.")
        elif self._failures:
            notes.append(f"Images of registries cannot run here: {self._failure_message()}")
        return notes

    async def problem(self) -> str | None:
        """Return why nothing can run here, or None if something can."""
        if self._takes_programs or await self._runtime():
            return None
        return self._failure_message()

    async def survey(self) -> list[str]:
        """Probe every runtime now, and return a line about each."""
        lines = []
        for name in IMAGE_RUNTIMES:
            try:
                runtime = await self._probe(name)
            except ContainerRuntimeError as e:
                lines.append(f"{name} does not work: {e}")
            else:
                lines.append(f"{name} works: {runtime.version}")
        chosen = await self._runtime()
        lines.append(
            f"images of registries run by {chosen.name}"
            if chosen
            else "images of registries cannot run here"
        )
        return lines

    async def _runtime(self) -> WorkingRuntime | None:
        async with self._probing:
            if self._working is None and time.monotonic() > self._probed_at + _RETRY_SECONDS:
                await self._find_runtime()
        return self._working

    async def _find_runtime(self) -> None:
        failures = {}
        for name in self._candidates:
            try:
                self._working = await self._probe(name)
                break
            except ContainerRuntimeError as e:
                failures[name] = str(e)
        self._failures = failures
        self._probed_at = time.monotonic()

    async def _probe(self, name: str) -> WorkingRuntime:
        # Another command applies to the configured runtime alone.
        command = self._settings.runtime_command if name == self._settings.runtime else []
        arguments = self._settings.runtime_arguments if name in self._candidates else []

        def run() -> WorkingRuntime:
            if ":" in str(self._root) or "," in str(self._root):
                raise ContainerRuntimeError(
                    f"it cannot mount folders below {self._root}: choose a home without : and ,"
                )
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                return probe(
                    name,
                    command or [name],
                    arguments,
                    network=self._settings.network == "own",
                    folder=str(self._root),
                )
            except OSError as e:
                raise ContainerRuntimeError(f"it could not be tried: {e}") from e

        return await asyncio.get_running_loop().run_in_executor(self._pool, run)

    def _program_notes(self) -> list[str]:
        if self._private_folders is not None:
            return [SANDBOX]
        notes = [ISOLATION] if sys.platform.startswith("linux") else [ISOLATION, NOT_LINUX]
        return notes if self._has_namespace else [*notes, NO_MOUNTS]

    def _failure_message(self) -> str:
        if self._settings.runtime == "none":
            return f"local.runtime is none, and what runs here are programs registered as {HOST_PREFIX}<name>"
        failures = "; ".join(f"{name}: {failure}" for name, failure in self._failures.items())
        return f"no container runtime works here ({failures}); programs registered as {HOST_PREFIX}<name> need none"
