"""``cts openapi``: prints the description of the REST API."""

from __future__ import annotations

import argparse

from cts_jupyter.cli.output import Status, print_json


def show(_: argparse.Namespace) -> Status:
    """Print the OpenAPI description of the REST API."""
    from cts_jupyter.server.http.openapi import describe  # noqa: PLC0415 - pulls in the server
    from cts_jupyter.server.routes.table import ROUTES  # noqa: PLC0415 - as above

    print_json(describe(ROUTES))
    return Status.OK
