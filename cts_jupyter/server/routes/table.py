"""The table of all routes; of two that match, the first is used, so literal paths precede placeholders."""

from __future__ import annotations

from cts_jupyter.server.http.route import Route
from cts_jupyter.server.routes import (
    admin,
    checksums,
    docs,
    events,
    examples,
    executors,
    files,
    images,
    jobs,
    listing,
    logs,
    monitor,
    refdata,
    root,
    sites,
    static,
    workers,
)

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
    *executors.ROUTES,
    *workers.ROUTES,
    *logs.ROUTES,
    *files.ROUTES,
    *checksums.ROUTES,
    *events.ROUTES,
    *static.ROUTES,
    *examples.ROUTES,
)
