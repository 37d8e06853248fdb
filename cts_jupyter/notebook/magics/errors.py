"""What a failed ``%cts`` shows: one line, no traceback."""

from __future__ import annotations


class MagicError(Exception):
    """Fails the cell with its message alone, which says what is wrong and what to do next."""

    def _render_traceback_(self) -> list[str]:
        # What IPython shows for an exception instead of its traceback.
        return [f"CTS: {self}"]
