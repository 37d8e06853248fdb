"""Routes that describe the service and its caller."""

from __future__ import annotations

import asyncio
from typing import Any

from cts_core.model.service import Root, WhoAmI
from cts_jupyter.server.http.call import Call
from cts_jupyter.server.http.openapi import describe_at
from cts_jupyter.server.http.route import Access, Route


async def get_root(call: Call) -> Root:
    """``GET /``."""
    return call.core.root()


async def get_whoami(call: Call) -> WhoAmI:
    """``GET /whoami``."""
    return call.engine.whoami(call.user)


async def get_openapi(call: Call) -> dict[str, Any]:
    """``GET /openapi.json``."""
    core = call.core
    # In a thread, because it takes long the first time.
    return await asyncio.to_thread(
        describe_at, tuple(call.routes), core.settings.root_url, title=core.root().service_name
    )


ANY_ROUTES = (
    Route("GET", "/", get_root, Access.ANYONE, "The service's name, version and time"),
    Route("GET", "/openapi.json", get_openapi, Access.ANYONE, "This description of the API"),
)
"""The routes that every service has."""
ROUTES = (
    *ANY_ROUTES,
    Route("GET", "/whoami", get_whoami, Access.USER, "The caller's name, roles and allowed paths"),
)
