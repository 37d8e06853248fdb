"""Sentences in a failed container's error that say what mends it.

The engine knows a failure by them (``cts_core/why.py``), in stored records, too: a sentence that changes is kept there.
"""

from __future__ import annotations

AGAIN = "Submit it again."
MORE_MEMORY = "Submit it again with more memory."
CHANGED = "has changed: its CRC64/NVME checksum was"
LONGER_RUNTIME = "Submit it again with a longer runtime."


def changed_input(path: str, expected: str, actual: str) -> str:
    """Return why an object is refused that is not the one that was asked for."""
    return f"The S3 path '{path}' {CHANGED} '{expected}', and is '{actual}' now"
