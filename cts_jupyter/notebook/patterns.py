"""The patterns and folders by which this kernel's jobs named their inputs; a job itself holds the files that they stood for."""

from __future__ import annotations

from collections.abc import Sequence

from cachetools import LRUCache

MAX_JOBS = 1000
"""Jobs whose patterns are remembered; the one that was looked at least recently is forgotten first."""
_words: LRUCache[str, tuple[str, ...]] = LRUCache(MAX_JOBS)


def remember(job_id: str, words: Sequence[str]) -> None:
    """Remember the options that named a job's inputs: ``-g``, ``bucket/mags/*.fna``."""
    _words[job_id] = tuple(words)


def recall(job_id: str) -> Sequence[str] | None:
    """Return the options that named a job's inputs; None if another kernel submitted it, or by the names of files."""
    return _words.get(job_id)
