"""The images that the local site can run: programs of this machine, and images of registries by a container runtime."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path

from cts_core.config.sections import LocalSettings
from cts_core.errors import ResourceUnavailableError, UnsupportedError
from cts_core.images.names import HOST_PREFIX
from cts_core.images.programs import check_program, program_file
from cts_core.model.image import JobImage
from cts_core.sites.worker_plan import ImagePlan
from cts_core.worker.runtimes.base import ContainerRuntimeError
from cts_core.worker.runtimes.probe import IMAGE_RUNTIMES, WorkingRuntime, probe

_RETRY_SECONDS = 30.0
"""Before the runtimes are probed again after none worked."""
ISOLATION = (
    "Runs programs of this machine as the user who runs the server. It isolates nothing: a program can read "
    "and write what that user can."
)
NOT_LINUX = (
    "On this system, limits and cancels reach the processes of a program's own group only: one that leaves it "
    "is neither counted nor stopped."
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
        pool: Executor,
    ) -> None:
        """Configure it: ``plain_http`` are registries reached by HTTP, ``takes_programs`` allows programs of this machine."""
        self._root = root
        self._settings = settings
        self._plain_http = frozenset(plain_http)
        self._takes_programs = takes_programs
        self._pool = pool
        self._working: WorkingRuntime | None = None
        self._failures: Mapping[str, str] = {}
        self._probed_at = float("-inf")
        self._probing = asyncio.Lock()

    @property
    def _candidates(self) -> Sequence[str]:
        choice = self._settings.runtime
        return {"auto": IMAGE_RUNTIMES, "none": ()}.get(choice, (choice,))

    async def check(self, image: JobImage) -> list[str]:
        """Return notes on running this image here. Raises UnsupportedError, ImageFetchError."""
        if image.name.startswith(HOST_PREFIX):
            if not self._takes_programs:
                raise UnsupportedError(
                    f"{image.name} is a program of the service's machine, and this service lets several people in: "
                    "it runs images of registries alone"
                )
            await check_program(image)
            return _program_notes()
        runtime = await self._runtime()
        if runtime is None:
            raise UnsupportedError(
                f"The site local cannot run the image {image.name}: {self._failure_message()}"
            )
        return [APPTAINER] if runtime.name == "apptainer" else []

    async def plan_image(self, image: JobImage) -> ImagePlan:
        """Plan how a worker runs the image. Raises ImageFetchError, and ResourceUnavailableError when nothing can now."""
        if image.name.startswith(HOST_PREFIX):
            return ImagePlan(program_file=await program_file(image.entrypoint))
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

    async def notes(self) -> list[str]:
        """Return the site's notes on itself: whether a configured runtime works, or which one ``auto`` found, once it has."""
        notes = _program_notes() if self._takes_programs else []
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

    def _failure_message(self) -> str:
        if self._settings.runtime == "none":
            return f"local.runtime is none, and what runs here are programs registered as {HOST_PREFIX}<name>"
        failures = "; ".join(f"{name}: {failure}" for name, failure in self._failures.items())
        return f"no container runtime works here ({failures}); programs registered as {HOST_PREFIX}<name> need none"


def _program_notes() -> list[str]:
    return [ISOLATION] if sys.platform.startswith("linux") else [ISOLATION, NOT_LINUX]
