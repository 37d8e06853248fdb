"""The version of CTS."""

from __future__ import annotations

import functools
from importlib import metadata
from pathlib import Path

VERSION = metadata.version("cts-jupyter")

_UNKNOWN = "unknown"


@functools.cache
def git_hash() -> str:
    """Return the commit of the checkout that runs; ``unknown`` for an installed package."""
    git = Path(__file__).parent.parent / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        return (git / head.removeprefix("ref: ")).read_text().strip()
    except OSError:
        return _UNKNOWN
