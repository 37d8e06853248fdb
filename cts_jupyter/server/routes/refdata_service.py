"""The routes of the service that stages reference data, which is not a CTS (docs/reference/contract.md §5)."""

from __future__ import annotations

from cts_core.model.refdata import StagedRefdata
from cts_jupyter.server.http.call import Call
from cts_jupyter.server.http.route import Access, Route
from cts_jupyter.server.routes import monitor, root
from cts_jupyter.server.routes.refdata import RefdataPath, RefdataSitePath


async def stage_refdata(call: Call, path: RefdataSitePath) -> None:
    """``POST /refdata/{refdata_id}/{cluster}``."""
    await call.staging.request(path.refdata_id, path.cluster)


async def get_staged_refdata(call: Call, path: RefdataPath) -> StagedRefdata:
    """``GET /refdata/{refdata_id}``."""
    return await call.staging.describe(path.refdata_id)


ROUTES: tuple[Route, ...] = (
    *root.ANY_ROUTES,
    *monitor.ROUTES,
    Route(
        "POST",
        "/refdata/{refdata_id}/{cluster}",
        stage_refdata,
        Access.CTS,
        "Begin to stage reference data",
    ),
    Route(
        "GET",
        "/refdata/{refdata_id}",
        get_staged_refdata,
        Access.ADMIN_OR_CTS,
        "The progress of staging reference data",
    ),
)
"""All routes of the staging service."""
