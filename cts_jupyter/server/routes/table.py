"""All routes. Where two match, the first is taken, so literal paths stand before placeholders."""

from __future__ import annotations

from cts_jupyter.api import (
    admin,
    docs,
    events,
    external,
    files,
    images,
    jobs,
    listing,
    logs,
    monitor,
    nodes,
    refdata,
    root,
    sites,
    static,
)
from cts_jupyter.api.route import Route

ROUTES: tuple[Route, ...] = (
    *root.ROUTES,
    *docs.ROUTES,
    *monitor.ROUTES,
    *sites.ROUTES,
    *images.ROUTES,
    *listing.ROUTES,
    *refdata.ROUTES,
    *jobs.ROUTES,
    *admin.ROUTES,
    *external.ROUTES,
    *nodes.ROUTES,
    *logs.ROUTES,
    *files.ROUTES,
    *events.ROUTES,
    *static.ROUTES,
)
