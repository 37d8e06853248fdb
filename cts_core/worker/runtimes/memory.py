"""The memory of a container, by one rule for every runtime.

The total is what counts for the container, pages of files included. Its anonymous part, with shared memory, is what the program
needs: the kernel takes pages of files back when memory runs short.
"""

from __future__ import annotations

from typing import NamedTuple


class Memory(NamedTuple):
    """Bytes of memory in use at one time, or the peak of each."""

    total: int
    anonymous: int | None
    """Anonymous and shared memory; None where the system does not tell it."""

    @property
    def file_pages(self) -> int:
        """The rest; 0 where it is not known."""
        return 0 if self.anonymous is None else self.total - self.anonymous


class MemoryPeak:
    """The peak of some memory, from samples and from the kernel's own peak of the total, which misses nothing."""

    def __init__(self) -> None:
        self._largest = Memory(0, None)
        self._anonymous: int | None = None
        self._total = 0

    def add(self, sample: Memory) -> None:
        """Account for a sample."""
        self._largest = max(self._largest, sample, key=lambda memory: memory.total)
        if sample.anonymous is not None:
            self._anonymous = max(self._anonymous or 0, sample.anonymous)
        self.add_total(sample.total)

    def add_total(self, total: int) -> None:
        """Account for a peak of the total by the kernel."""
        self._total = max(self._total, total)

    @property
    def peak(self) -> Memory | None:
        """The peak of the total, and that of the anonymous part; None when nothing is known.

        Of a total that no sample has seen, all is taken for anonymous but the pages of files in the largest sample; when that
        is less than half of it, all. So what a program needs is rather too large than too small.
        """
        if not self._total:
            return None
        if self._anonymous is None:
            return Memory(self._total, None)
        is_seen = self._largest.total > self._total / 2
        unseen = self._total - (self._largest.file_pages if is_seen else 0)
        return Memory(self._total, max(self._anonymous, unseen))


def larger(one: Memory | None, other: Memory | None) -> Memory | None:
    """Return the larger total and the larger anonymous part of two peaks."""
    if one is None or other is None:
        return one or other
    parts = [part for part in (one.anonymous, other.anonymous) if part is not None]
    return Memory(max(one.total, other.total), max(parts, default=None))
