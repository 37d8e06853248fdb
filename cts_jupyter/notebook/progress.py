"""The bar that shows how far a command is: tqdm's, in a notebook and in a terminal."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from IPython.core.getipython import get_ipython

_DELAY_SECONDS = 1.0
"""What is done sooner has no bar."""


@contextmanager
def progress_bar(doing: str, total: int) -> Iterator[Callable[[int], object]]:
    """Show a bar over the block, which calls what it gets with the number of things that are done since the last call.

    Without a person who could see it there is none.
    """
    if not (hasattr(get_ipython(), "kernel") or sys.stderr.isatty()):
        yield lambda _: None
        return
    with warnings.catch_warnings():
        # Without ipywidgets it shows a bar of text, and need not say that there are nicer ones.
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm  # noqa: PLC0415 - slow to import, and seldom needed

        bar = tqdm(desc=doing, total=total, unit="", delay=_DELAY_SECONDS, leave=False)
    with bar:
        yield bar.update
