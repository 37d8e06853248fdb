"""The local files that a command has fetched: a list that shows its first paths and the number of the others."""

from __future__ import annotations

from pathlib import Path

_SHOWN = 10


class PathList(list[Path]):
    """A list of local paths."""

    def __repr__(self) -> str:
        if len(self) <= _SHOWN:
            return super().__repr__()
        shown = "".join(f"{path!r},\n " for path in self[:_SHOWN])
        return f"[{shown}... and {len(self) - _SHOWN:,} more]"
