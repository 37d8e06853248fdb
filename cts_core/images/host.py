"""Programs of this machine as images: which file stands for one, and its digest."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from cts_core.errors import ImageFetchError, MissingParameterError
from cts_core.model.image import JobImage

_FIND_SECONDS = 30.0
# Finding a module imports the packages above it, which may do anything: not in the server.
_FIND = """
import importlib.util, sys
name = sys.argv[1]
spec = importlib.util.find_spec(name)
if spec is not None and spec.submodule_search_locations is not None:
    spec = importlib.util.find_spec(name + ".__main__")
print(spec.origin if spec is not None and spec.has_location else "")
"""


@dataclass(frozen=True)
class HostProgram:
    """What a ``host/…`` image runs."""

    entrypoint: list[str]
    digest: str


async def resolve_program(*, executable: str | None, module: str | None) -> HostProgram:
    """The program that a registration names. Raises MissingParameterError, ImageFetchError."""
    if executable is not None:
        if not Path(executable).is_absolute():
            raise ImageFetchError(f"Give the absolute path of the program, not '{executable}'")
        entrypoint = [executable]
    elif module is not None:
        entrypoint = [sys.executable, "-m", module]
    else:
        raise MissingParameterError(
            "A host image needs the program that it runs: give executable (an absolute path) or module "
            "(a Python module)"
        )
    return HostProgram(entrypoint, await _digest(await program_file(entrypoint)))


async def program_file(entrypoint: list[str]) -> str:
    """The file whose sha256 is the digest of a host image. Raises ImageFetchError."""
    if len(entrypoint) == 3 and entrypoint[1] == "-m":  # noqa: PLR2004 - interpreter, -m, module
        return await _module_file(entrypoint[2])
    path = entrypoint[0]
    if not await asyncio.to_thread(_is_program, path):
        raise ImageFetchError(f"'{path}' is not a program that can be run on this machine")
    return path


async def check_program(image: JobImage) -> None:
    """Raise ImageFetchError unless the program still is what was registered."""
    actual = await _digest(await program_file(image.entrypoint))
    if actual != image.digest:
        raise ImageFetchError(
            f"The program behind {image.name} has changed since it was registered ({image.digest}, now "
            f"{actual}): delete the image and register it again"
        )


async def _module_file(module: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _FIND,
        module,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd="/",
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(), _FIND_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        out = b""
    found = out.decode().strip()
    if process.returncode != 0 or not found:
        raise ImageFetchError(
            f"There is no Python module '{module}' that {sys.executable} can run: install it there first"
        )
    return found


def _is_program(path: str) -> bool:
    return Path(path).is_file() and os.access(path, os.X_OK)


async def _digest(path: str) -> str:
    def compute() -> str:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    try:
        return f"sha256:{await asyncio.to_thread(compute)}"
    except OSError as e:
        raise ImageFetchError(f"The program '{path}' cannot be read: {e.strerror}") from e
