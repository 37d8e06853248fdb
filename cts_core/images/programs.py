"""Programs of this machine as images: the file of a program, and its digest."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from cts_core.errors import ImageFetchError, MissingParameterError
from cts_core.model.image import JobImage
from cts_core.worker.runtimes.host import base_environment

_FIND_TIMEOUT_SECONDS = 30.0
# In another process, because finding a module imports its parent packages, which may have side effects.
_FIND_SCRIPT = """
import importlib.util, sys
name = sys.argv[1]
spec = importlib.util.find_spec(name)
if spec is not None and spec.submodule_search_locations is not None:
    spec = importlib.util.find_spec(name + ".__main__")
print(spec.origin if spec is not None and spec.has_location else "")
"""
_T = TypeVar("_T")
_pool = ThreadPoolExecutor(2, thread_name_prefix="cts-images")


@dataclass(frozen=True)
class HostProgram:
    """The program that a ``host/…`` image runs."""

    entrypoint: list[str]
    digest: str


async def resolve_program(
    *, executable: str | None, module: str | None, interpreter: str | None = None
) -> HostProgram:
    """Return the program that a registration names. Raises MissingParameterError, ImageFetchError."""

    def resolve() -> HostProgram:
        if executable is not None:
            entrypoint = [*([_absolute(interpreter)] if interpreter else []), _absolute(executable)]
        elif module is not None:
            entrypoint = [sys.executable, "-m", module]
        else:
            raise MissingParameterError(
                "A host image needs the program that it runs: give executable (an absolute path) or module "
                "(a Python module)"
            )
        return HostProgram(entrypoint, _digest(_file(entrypoint)))

    return await _in_thread(resolve)


async def program_file(entrypoint: Sequence[str]) -> str:
    """Return the file whose sha256 is the digest of a host image. Raises ImageFetchError."""
    return await _in_thread(lambda: _file(entrypoint))


async def check_program(image: JobImage) -> None:
    """Raise ImageFetchError if the program has changed since it was registered."""
    actual = await _in_thread(lambda: _digest(_file(image.entrypoint)))
    if actual != image.digest:
        raise ImageFetchError(
            f"The program behind {image.name} has changed since it was registered ({image.digest}, now {actual}): register "
            f"it again: {_registration(image)}"
        )


def _registration(image: JobImage) -> str:
    """Return the line of ``%cts`` that registers a host image again, in place of what it was."""
    name = image.name if image.tag in ("", "latest") else f"{image.name}:{image.tag}"
    match image.entrypoint:
        case [_, "-m", module]:
            return f"%cts images --register {name} --module {module}"
    return f"%cts images --register {name} {shlex.quote(image.entrypoint[-1])}"


async def _in_thread(function: Callable[[], _T]) -> _T:
    return await asyncio.get_running_loop().run_in_executor(_pool, function)


def _absolute(executable: str) -> str:
    if Path(executable).is_absolute():
        return executable
    program = shutil.which(executable)
    hint = f", such as {program}" if program else ""
    raise ImageFetchError(f"Give the absolute path of the program, not '{executable}'{hint}")


def _file(entrypoint: Sequence[str]) -> str:
    match entrypoint:
        case [_, "-m", module]:
            return _module_file(module)
        case [interpreter, path] if _can_run(interpreter) and Path(path).is_file():
            return path
        case [path, *_] if _can_run(path):
            return path
    raise ImageFetchError(
        f"'{' '.join(entrypoint)}' is not a program that can be run on this machine: it must be a file with "
        "the permission to execute it"
    )


def _can_run(path: str) -> bool:
    return Path(path).is_file() and os.access(path, os.X_OK)


def _module_file(module: str) -> str:
    # With the environment of a container: an empty folder, and a home of its own.
    with TemporaryDirectory(prefix="cts-") as scratch:
        try:
            process = subprocess.run(  # noqa: S603 - our own interpreter and text
                [sys.executable, "-c", _FIND_SCRIPT, module],
                env=base_environment(scratch),
                cwd=scratch,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_FIND_TIMEOUT_SECONDS,
                check=True,
            )
        except subprocess.SubprocessError as e:
            raise _no_module(module) from e
    # Parent packages may print text before it.
    path = os.fsdecode(process.stdout).strip().rpartition("\n")[2]
    if not Path(path).is_file():
        raise _no_module(module)
    return path


def _no_module(module: str) -> ImageFetchError:
    return ImageFetchError(
        f"There is no Python module '{module}' that {sys.executable} can run: install it there first"
    )


def _digest(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as e:
        raise ImageFetchError(f"The program '{path}' cannot be read: {e.strerror}") from e
