"""Routes for sites: list them, and activate or deactivate one."""

from __future__ import annotations

from pydantic import BaseModel

from cts_core.model.site import SiteLoad, SiteName, Sites
from cts_jupyter.server.http.call import Call
from cts_jupyter.server.http.route import Access, Route


class SitePath(BaseModel):
    """A site's name."""

    site: SiteName


async def list_sites(call: Call) -> Sites:
    """``GET /sites``."""
    return await call.engine.sites.list()


async def get_load(call: Call, path: SitePath) -> SiteLoad:
    """``GET /sites/{site}/load``."""
    return await call.engine.sites.load(call.user, path.site)


async def activate_site(call: Call, path: SitePath) -> None:
    """``PUT /admin/sites/{site}/active``."""
    await call.engine.sites.set_active(call.user, path.site, active=True)


async def deactivate_site(call: Call, path: SitePath) -> None:
    """``DELETE /admin/sites/{site}/active``."""
    await call.engine.sites.set_active(call.user, path.site, active=False)


_ACTIVE = "/admin/sites/{site}/active"
ROUTES = (
    Route("GET", "/sites", list_sites, Access.ANYONE, "The sites where jobs run", nulls=True),
    Route("GET", "/sites/{site}/load", get_load, Access.USER, "What waits and runs at a site"),
    Route("PUT", _ACTIVE, activate_site, Access.ADMIN, "Activate a site, so that it takes jobs"),
    Route(
        "DELETE",
        _ACTIVE,
        deactivate_site,
        Access.ADMIN,
        "Deactivate a site, so that it takes no more jobs",
    ),
)
