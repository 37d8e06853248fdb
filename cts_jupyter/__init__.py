"""CTS inside Jupyter: the server extension, the client, `%cts` and the live card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    # Imported only by a server: a kernel that loads %cts needs none of it.
    from cts_jupyter.server.extension import CTSExtension  # noqa: PLC0415 - see above

    return [{"module": "cts_jupyter.server.extension", "app": CTSExtension}]


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register ``%cts``; IPython calls this for ``%load_ext cts_jupyter``."""
    # Imported only by a kernel: a server needs none of it.
    from cts_jupyter.notebook import magics  # noqa: PLC0415 - see above

    magics.load_ipython_extension(shell)
