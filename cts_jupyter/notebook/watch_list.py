"""Many jobs as one live list: in a notebook and in a terminal."""

from __future__ import annotations

import shutil
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from IPython.core.getipython import get_ipython
from IPython.display import display, update_display

from cts_core.states import JobState
from cts_jupyter import formatting
from cts_jupyter.notebook.job import Job
from cts_jupyter.notebook.table import Column, Table
from cts_jupyter.notebook.throttle import Throttle

MAX_LISTED = 20
"""The number of jobs that are listed: those that failed come first, then live ones."""


@dataclass(frozen=True)
class _Row:
    """A job, and what stays the same of it."""

    job: Job
    image: str
    containers: int
    output_dir: str

    @property
    def state(self) -> str:
        return self.job.known_state

    @property
    def done(self) -> int:
        if self.state == JobState.COMPLETE:
            return self.containers
        return self.job.known_counts.get(JobState.COMPLETE, 0)

    @property
    def rank(self) -> int:
        if not formatting.has_ended(self.state):
            return 1
        return 2 if self.state == JobState.COMPLETE else 0


_COLUMNS: Sequence[Column[_Row]] = [
    Column("job", lambda r: formatting.short_id(r.job.id)),
    Column("state", lambda r: formatting.format_state(r.state)),
    Column("containers done", lambda r: f"{r.done:,} of {r.containers:,}", is_number=True),
    Column("image", lambda r: r.image),
    Column("outputs in", lambda r: r.output_dir),
]


class WatchList:
    """A list of jobs that changes as events come, until it is closed. Raises CTSClientError at first."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._rows = [_row(job) for job in jobs]
        self._is_notebook = hasattr(get_ipython(), "kernel")
        self._display_id = f"cts-list-{uuid.uuid4()}"
        self._lines = 0
        self._drawing = threading.Lock()
        self._throttle = Throttle(self._redraw)
        self._draw()
        for job in jobs:
            job.watch(self._on_change)

    def _on_change(self) -> None:
        # What shows nothing before its end, such as a log file, gets the end alone.
        if self._is_notebook or sys.stdout.isatty():
            self._throttle.soon()

    def close(self) -> None:
        """Show the jobs for the last time, and follow them no more."""
        for row in self._rows:
            row.job.unwatch(self._on_change)
        self._throttle.now()

    def table(self) -> Table[_Row]:
        """Return the list as it is now."""
        counts = Counter(formatting.format_state(row.state) for row in self._rows)
        summary = ", ".join(f"{count:,} {state.lower()}" for state, count in counts.most_common())
        more = len(self._rows) - MAX_LISTED
        notes = [f"and {formatting.plural(more, 'job')} more"] if more > 0 else []
        notes.append(f"{formatting.plural(len(self._rows), 'job')}: {summary}")
        listed = sorted(self._rows, key=lambda row: row.rank)[:MAX_LISTED]
        return Table(_COLUMNS, listed, empty="No jobs", notes=notes)

    def _draw(self) -> None:
        table = self.table()
        if self._is_notebook:
            display(table, display_id=self._display_id)  # type: ignore[no-untyped-call]  # IPython's
        else:
            self._print(table)
        self._throttle.note_done()

    def _redraw(self) -> None:
        with self._drawing:
            table = self.table()
            if self._is_notebook:
                update_display(table, display_id=self._display_id)  # type: ignore[no-untyped-call]  # IPython's
            else:
                self._print(table)

    def _print(self, table: Table[_Row]) -> None:
        """Print the list in the place of the one before, where a terminal can."""
        lines = repr(table).splitlines()
        if sys.stdout.isatty():
            # A line that wraps would count as two.
            lines = [line[: shutil.get_terminal_size().columns - 1] for line in lines]
            if self._lines:
                sys.stdout.write(f"\x1b[{self._lines}F\x1b[J")
        self._lines = len(lines)
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()


def _row(job: Job) -> _Row:
    request = job.summary.job_input
    image = request.image.rpartition("/")[2]
    return _Row(job, image, request.num_containers, request.output_dir)
