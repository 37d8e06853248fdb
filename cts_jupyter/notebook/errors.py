"""The error of a failed ``%cts``: shown as one line, without a traceback."""

from __future__ import annotations

from cts_jupyter.formatting import printable


class MagicError(Exception):
    """Fails the cell. Its message, shown without a traceback, says what is wrong and what to do next."""

    def _render_traceback_(self) -> list[str]:
        # IPython shows this instead of the traceback.
        return [f"CTS: {printable(str(self))}"]
