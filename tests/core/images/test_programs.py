"""Programs of this machine as images."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from cts_core.errors import ImageFetchError, MissingParameterError
from cts_core.images.programs import check_program, program_file, resolve_program
from tests.harness.factories import make_image


def _sha256(path: Path) -> str:
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    path = tmp_path / "tool"
    path.write_text("#!/bin/sh\necho 1\n")
    path.chmod(0o755)
    return path


async def test_executable(tool: Path) -> None:
    program = await resolve_program(executable=str(tool), module=None)
    assert program.entrypoint == [str(tool)]
    assert program.digest == _sha256(tool)


async def test_module() -> None:
    program = await resolve_program(executable=None, module="json.tool")
    assert program.entrypoint == [sys.executable, "-m", "json.tool"]
    path = Path(await program_file(program.entrypoint))
    assert path.name == "tool.py"
    assert program.digest == _sha256(path)


async def test_package_stands_for_its_main_module() -> None:
    program = await resolve_program(executable=None, module="unittest")
    path = Path(await program_file(program.entrypoint))
    assert path.parts[-2:] == ("unittest", "__main__.py")
    assert program.digest == _sha256(path)


@pytest.mark.parametrize("module", ["no_such_module_here", "no_such.module", "json", "sys"])
async def test_module_that_cannot_be_run(module: str) -> None:
    with pytest.raises(ImageFetchError, match=f"no Python module '{module}'"):
        await resolve_program(executable=None, module=module)


async def test_module_is_found_as_a_container_finds_it(tmp_path, monkeypatch) -> None:
    # The folder that the server happens to run in, and its environment, are not the container's.
    (tmp_path / "only_here_or_there.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ImageFetchError):
        await resolve_program(executable=None, module="only_here_or_there")


async def test_neither_executable_nor_module() -> None:
    with pytest.raises(MissingParameterError, match="executable"):
        await resolve_program(executable=None, module=None)


async def test_relative_executable_names_the_absolute_one() -> None:
    with pytest.raises(ImageFetchError, match=r"absolute path.*'sh', such as /.*sh"):
        await resolve_program(executable="sh", module=None)


async def test_executable_without_permission_or_file(tool: Path, tmp_path: Path) -> None:
    tool.chmod(0o644)
    for path in (tool, tmp_path, tmp_path / "absent"):
        with pytest.raises(ImageFetchError, match="permission to execute"):
            await resolve_program(executable=str(path), module=None)


async def test_changed_program_is_another_image(tool: Path) -> None:
    program = await resolve_program(executable=str(tool), module=None)
    image = make_image(entrypoint=program.entrypoint, digest=program.digest).for_job()
    await check_program(image)
    tool.write_text("#!/bin/sh\necho 2\n")
    with pytest.raises(ImageFetchError, match=r"host/tool has changed since it was registered"):
        await check_program(image)
