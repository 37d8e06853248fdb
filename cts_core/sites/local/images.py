"""What the local site can run: programs of this machine, and images of registries by a container runtime."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from cts_core.config.sections import LocalSettings
from cts_core.errors import IllegalParameterError, ResourceUnavailableError, UnsupportedError
from cts_core.images.names import HOST_PREFIX
from cts_core.images.programs import check_program, program_file
from cts_core.model.image import JobImage
from cts_core.model.job import JobInputPreview
from cts_core.worker.runtimes.base import ContainerRuntimeError
from cts_core.worker.runtimes.probe import IMAGE_RUNTIMES, WorkingRuntime, probe

_ASK_AGAIN_SECONDS = 30.0
"""After none worked."""
ISOLATION = (
    "Runs programs of this machine as the user who runs the server. It isolates nothing: a program can read "
    "and write what that user can."
)
NOT_LINUX = (
    "On this system, limits and cancels reach the processes of a program's own group only: one that leaves it "
    "is neither counted nor stopped."
)
APPTAINER = "Apptainer runs an image as the user who runs the server, in namespaces of its own but for the network."


@dataclass(frozen=True)
class HowToRun:
    """The part of a worker's plan that is about its image; the names are the plan's."""

    program_file: str = ""
    container_runtime: str = "host"
    runtime_command: Sequence[str] = ()
    runtime_arguments: Sequence[str] = ()
    image: str = ""
    image_folder: str = ""
    plain_http: bool = False
    network: bool = True


class LocalImages:
    """Which runtime is found out when it is first needed, and kept."""

    def __init__(
        self,
        root: Path,
        settings: LocalSettings,
        *,
        plain_http: Sequence[str] = (),
        takes_programs: bool = True,
        pool: Executor,
    ) -> None:
        """``plain_http``: registries reached by http. ``takes_programs``: whether programs of this machine may run."""
        self._root = root
        self._settings = settings
        self._plain_http = frozenset(plain_http)
        self._takes_programs = takes_programs
        self._pool = pool
        self._found: WorkingRuntime | None = None
        self._faults: Mapping[str, str] = {}
        self._asked = float("-inf")
        self._asking = asyncio.Lock()

    @property
    def _candidates(self) -> Sequence[str]:
        choice = self._settings.runtime
        return {"auto": IMAGE_RUNTIMES, "none": ()}.get(choice, (choice,))

    async def check(self, job: JobInputPreview, image: JobImage) -> list[str]:
        """What is to be known before this image runs here. Raises UnsupportedError, IllegalParameterError, ImageFetchError."""
        is_program = image.name.startswith(HOST_PREFIX)
        _check_mounts(job, image, may_nest=is_program)
        if is_program:
            if not self._takes_programs:
                raise UnsupportedError(
                    f"{image.name} is a program of the service's machine, and this service lets several people in: "
                    "it runs images of registries alone"
                )
            await check_program(image)
            return _program_notes()
        found = await self._runtime()
        if found is None:
            raise UnsupportedError(
                f"The site local cannot run the image {image.name}: {self._why()}"
            )
        return [APPTAINER] if found.name == "apptainer" else []

    async def how(self, image: JobImage) -> HowToRun:
        """How a worker runs it. Raises ImageFetchError, and ResourceUnavailableError when nothing can now."""
        if image.name.startswith(HOST_PREFIX):
            return HowToRun(program_file=await program_file(image.entrypoint))
        found = await self._runtime()
        if found is None:
            raise ResourceUnavailableError(
                f"The site local cannot run the image {image.name} now: {self._why()}"
            )
        return HowToRun(
            container_runtime=found.name,
            runtime_command=found.command,
            runtime_arguments=self._settings.runtime_arguments,
            image=f"{image.name}@{image.digest}",
            image_folder=str(self._root / "images"),
            plain_http=image.name.partition("/")[0] in self._plain_http,
            network=self._settings.network == "own",
        )

    async def notes(self) -> list[str]:
        """What the site says of itself: of a runtime that was named, whether it works; of another, once it is known."""
        notes = _program_notes() if self._takes_programs else []
        found = self._found
        if self._settings.runtime not in ("auto", "none"):
            found = await self._runtime()
        if found is not None:
            notes.append(f"Runs images of registries by {found.name} {found.version}.")
        elif self._faults:
            notes.append(f"Images of registries cannot run here: {self._why()}")
        return notes

    async def trouble(self) -> str | None:
        """Why nothing can run here, if so."""
        if self._takes_programs or await self._runtime():
            return None
        return self._why()

    async def survey(self) -> list[str]:
        """A line about each runtime, all of them tried now."""
        lines = []
        for name in IMAGE_RUNTIMES:
            try:
                found = await self._probe(name)
            except ContainerRuntimeError as e:
                lines.append(f"{name} does not work: {e}")
            else:
                lines.append(f"{name} works: {found.version}")
        chosen = await self._runtime()
        lines.append(
            f"images of registries run by {chosen.name}"
            if chosen
            else "images of registries cannot run here"
        )
        return lines

    async def _runtime(self) -> WorkingRuntime | None:
        async with self._asking:
            if self._found is None and time.monotonic() > self._asked + _ASK_AGAIN_SECONDS:
                await self._choose()
        return self._found

    async def _choose(self) -> None:
        faults = {}
        for name in self._candidates:
            try:
                self._found = await self._probe(name)
                break
            except ContainerRuntimeError as e:
                faults[name] = str(e)
        self._faults = faults
        self._asked = time.monotonic()

    async def _probe(self, name: str) -> WorkingRuntime:
        # Another program is that of the runtime that was chosen, and of no other.
        given = self._settings.runtime_command if name == self._settings.runtime else []
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
                    given or [name],
                    arguments,
                    network=self._settings.network == "own",
                    folder=str(self._root),
                )
            except OSError as e:
                raise ContainerRuntimeError(f"it could not be tried: {e}") from e

        return await asyncio.get_running_loop().run_in_executor(self._pool, run)

    def _why(self) -> str:
        if self._settings.runtime == "none":
            return f"local.runtime is none, and what runs here are programs registered as {HOST_PREFIX}<name>"
        faults = "; ".join(f"{name}: {why}" for name, why in self._faults.items())
        return f"no container runtime works here ({faults}); programs registered as {HOST_PREFIX}<name> need none"


def _check_mounts(job: JobInputPreview, image: JobImage, *, may_nest: bool) -> None:
    points = [job.params.input_mount_point, job.params.output_mount_point]
    if image.refdata_id is not None:
        points.append(job.params.refdata_mount_point or image.default_refdata_mount_point or "")
    points = [point.rstrip("/") for point in points]
    for point in points:
        if points.count(point) > 1:
            raise IllegalParameterError(
                f"Two mount points are {point}: inputs, outputs and reference data need one each"
            )
        for other in points:
            if not may_nest and other.startswith(f"{point}/"):
                raise IllegalParameterError(
                    f"The mount point {other} lies within {point}, which no container can have here: choose "
                    "folders beside each other"
                )


def _program_notes() -> list[str]:
    return [ISOLATION] if sys.platform.startswith("linux") else [ISOLATION, NOT_LINUX]
