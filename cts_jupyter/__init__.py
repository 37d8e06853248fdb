"""CTS inside Jupyter: the server extension, the client, ``%cts`` and the live card.

What notebooks and scripts import is listed in ``__all__``. It is loaded when it is first used, because a Jupyter
server imports this package for the extension alone, and a kernel for the magics.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from cts_core.version import VERSION as __version__  # noqa: N811 - Python's name for it
    from cts_jupyter.client import (
        AsyncClient,
        CTSClient,
        CTSClientError,
        CTSConnectionError,
        CTSRequestError,
    )
    from cts_jupyter.client.resubmit import ResubmitError
    from cts_jupyter.discovery import NoConnectionError
    from cts_jupyter.notebook.check_report import CheckReport
    from cts_jupyter.notebook.columns import Verdict
    from cts_jupyter.notebook.errors import MagicError
    from cts_jupyter.notebook.functions import check, job, jobs, submit
    from cts_jupyter.notebook.job import Job
    from cts_jupyter.notebook.output_folder import OutputFolderError
    from cts_jupyter.notebook.panel import Panel, PanelError, panel
    from cts_jupyter.notebook.serialize import SerializeError
    from cts_jupyter.notebook.session import JobReferenceError, Session, current_session
    from cts_jupyter.notebook.table import Table
    from cts_jupyter.notebook.verification import VerifyError

__all__ = [
    "AsyncClient",
    "CTSClient",
    "CTSClientError",
    "CTSConnectionError",
    "CTSRequestError",
    "CheckReport",
    "Job",
    "JobReferenceError",
    "MagicError",
    "NoConnectionError",
    "OutputFolderError",
    "Panel",
    "PanelError",
    "ResubmitError",
    "SerializeError",
    "Session",
    "Table",
    "Verdict",
    "VerifyError",
    "__version__",
    "check",
    "current_session",
    "job",
    "jobs",
    "panel",
    "submit",
]

_MODULES = {
    "AsyncClient": "cts_jupyter.client",
    "CTSClient": "cts_jupyter.client",
    "CTSClientError": "cts_jupyter.client",
    "CTSConnectionError": "cts_jupyter.client",
    "CTSRequestError": "cts_jupyter.client",
    "CheckReport": "cts_jupyter.notebook.check_report",
    "Job": "cts_jupyter.notebook.job",
    "JobReferenceError": "cts_jupyter.notebook.session",
    "MagicError": "cts_jupyter.notebook.errors",
    "NoConnectionError": "cts_jupyter.discovery",
    "OutputFolderError": "cts_jupyter.notebook.output_folder",
    "Panel": "cts_jupyter.notebook.panel",
    "PanelError": "cts_jupyter.notebook.panel",
    "ResubmitError": "cts_jupyter.client.resubmit",
    "SerializeError": "cts_jupyter.notebook.serialize",
    "Session": "cts_jupyter.notebook.session",
    "Table": "cts_jupyter.notebook.table",
    "Verdict": "cts_jupyter.notebook.columns",
    "VerifyError": "cts_jupyter.notebook.verification",
    "__version__": "cts_core.version",
    "check": "cts_jupyter.notebook.functions",
    "current_session": "cts_jupyter.notebook.session",
    "job": "cts_jupyter.notebook.functions",
    "jobs": "cts_jupyter.notebook.functions",
    "panel": "cts_jupyter.notebook.panel",
    "submit": "cts_jupyter.notebook.functions",
}
"""The module that defines each public name."""

if not TYPE_CHECKING:
    # Hidden from type checkers, which would otherwise accept any name.
    def __getattr__(name: str) -> object:
        """Load a public name when it is first used."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        defined_as = "VERSION" if name == "__version__" else name
        value = getattr(importlib.import_module(_MODULES[name]), defined_as)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    # Imported only by a server: a kernel that loads %cts needs none of it.
    from cts_jupyter.server.extension import CTSExtension  # noqa: PLC0415 - see above

    return [{"module": "cts_jupyter.server.extension", "app": CTSExtension}]


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register ``%cts``; IPython calls this for ``%load_ext cts_jupyter``."""
    # Imported only by a kernel: a server needs none of it.
    from cts_jupyter.notebook.magics import extension  # noqa: PLC0415 - see above

    extension.load_ipython_extension(shell)
