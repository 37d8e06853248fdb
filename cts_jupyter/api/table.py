"""All routes. Where two match, the first is taken, so literal paths stand before placeholders."""

from __future__ import annotations

from cts_jupyter.api import (
    admin,
    events,
    files,
    images,
    jobs,
    listing,
    logs,
    monitor,
    root,
    sites,
    static,
)
from cts_jupyter.api.route import Route

ROUTES: tuple[Route, ...] = (
    *root.ROUTES,
    *monitor.ROUTES,
    *sites.ROUTES,
    *images.ROUTES,
    *listing.ROUTES,
    *jobs.ROUTES,
    *admin.ROUTES,
    *logs.ROUTES,
    *files.ROUTES,
    *events.ROUTES,
    *static.ROUTES,
)
