"""``%cts images --register`` with a real registry."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from cts_jupyter.notebook import session
from cts_jupyter.notebook.errors import MagicError
from cts_jupyter.notebook.magics.expansion import Namespace
from cts_jupyter.notebook.magics.magic import run_line
from tests.harness.server import ServerHarness
from tests.services.registry import Registry

pytestmark = pytest.mark.slow


@pytest.fixture
def _kernel(server: ServerHarness, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make this process a kernel of the server."""
    monkeypatch.setenv("JPY_PARENT_PID", str(os.getpid()))
    yield
    if session._current is not None:
        session._current.close()
        session._current = None


async def cts(line: str) -> object:
    return await asyncio.to_thread(run_line, line, None, Namespace({}), {})


@pytest.mark.usefixtures("_kernel")
async def test_registry_image_is_registered(registry: Registry) -> None:
    name = f"{registry.host}/magics/tool"
    digest = registry.push_image("magics/tool", "1", ["tool", "run"])
    (image,) = await cts(f"images --register {name}:1")
    assert (image.name, image.tag, image.digest, image.entrypoint) == (
        name,
        "1",
        digest,
        ["tool", "run"],
    )
    assert [found.digest for found in await cts("images magics/tool")] == [digest]
    moved = registry.push_image("magics/tool", "1", ["tool", "run", "--new"])
    with pytest.raises(
        MagicError, match=f"is registered already, as {digest}: %cts images --delete"
    ):
        await cts(f"images --register {name}:1")
    await cts(f"images --delete {name}:1")
    (again,) = await cts(f"images --register {name}:1")
    assert again.digest == moved
    for line, said in (
        (f"{name}:none", "none"),
        (f"{name}:1 --refdata nope", "nope"),
        (f"{name}:2 --refdata-mount /ref", "reference data"),
        (f"{name}:1 --module json.tool", "host/<name>"),
    ):
        with pytest.raises(MagicError, match=said):
            await cts(f"images --register {line}")
