"""The route that serves scripts to pages: the one that notebooks of earlier versions import."""

from __future__ import annotations

import asyncio
import hashlib
from importlib.resources import files
from typing import Annotated

from pydantic import BaseModel, StringConstraints

from cts_core.errors import NotFoundError
from cts_jupyter.server.http.call import Call, Stream
from cts_jupyter.server.http.route import Access, Route

_FOLDER = files("cts_jupyter") / "server" / "static"
_TYPES = {
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "json": "application/json",
}


class StaticPath(BaseModel):
    """A file's name."""

    name: Annotated[str, StringConstraints(pattern=r"^\w[\w-]*\.(js|css|json)$", max_length=100)]


async def get_static(call: Call, path: StaticPath) -> Stream:  # noqa: ARG001 - every handler has a call
    """``GET /static/{name}``. Raises NotFoundError."""
    file = _FOLDER / path.name
    try:
        content = await asyncio.to_thread(file.read_bytes)
    except OSError as e:
        raise NotFoundError from e
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    kind = _TYPES[path.name.rpartition(".")[2]]
    return Stream.of(content, kind, {"ETag": etag, "Cache-Control": "no-cache"})


ROUTES = (
    Route("GET", "/static/{name}", get_static, Access.ANYONE, "Scripts of pages", media="text/*"),
)
