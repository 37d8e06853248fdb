"""Routes that serve the example notebooks of this installation to pages, which copy them to where a person works."""

from __future__ import annotations

import asyncio
from typing import Annotated

from pydantic import BaseModel, StringConstraints

from cts_core.errors import NotFoundError
from cts_jupyter.examples.example import find_examples
from cts_jupyter.server.http.call import Call, Stream
from cts_jupyter.server.http.route import Access, Route

NOTEBOOK = "application/x-ipynb+json"


class ExampleEntry(BaseModel):
    """A notebook as it is listed."""

    name: str
    title: str
    summary: str


class Examples(BaseModel):
    """The notebooks, in the order in which they are read."""

    examples: list[ExampleEntry]


class ExamplePath(BaseModel):
    """A notebook's name."""

    example: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z-]*$", max_length=100)]


async def list_examples(call: Call) -> Examples:  # noqa: ARG001 - every handler has a call
    """``GET /examples``."""
    found = await asyncio.to_thread(find_examples)
    return Examples(
        examples=[ExampleEntry(name=e.name, title=e.title, summary=e.summary) for e in found]
    )


async def get_example(call: Call, path: ExamplePath) -> Stream:  # noqa: ARG001 - as above
    """``GET /examples/{example}``. Raises NotFoundError."""
    for example in await asyncio.to_thread(find_examples):
        if example.name == path.example:
            return Stream.of(await asyncio.to_thread(example.path.read_bytes), NOTEBOOK)
    raise NotFoundError


ROUTES = (
    Route(
        "GET", "/examples", list_examples, Access.ANYONE, "The example notebooks of this installation",
        needs_engine=False,
    ),
    Route(
        "GET", "/examples/{example}", get_example, Access.ANYONE, "An example notebook", media=NOTEBOOK,
        needs_engine=False,
    ),
)  # fmt: skip
