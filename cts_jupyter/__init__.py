"""CTS inside Jupyter: the server extension, the client, `%cts` and the live card."""

from __future__ import annotations

from typing import Any


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    # Imported only by a server: a kernel that loads %cts needs none of it.
    from cts_jupyter.extension import CTSExtension  # noqa: PLC0415 - see above

    return [{"module": "cts_jupyter.extension", "app": CTSExtension}]
