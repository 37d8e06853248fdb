"""A job in Python: what it is doing, what came of it, and its card in a notebook."""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from cts_jupyter import formatting
from cts_jupyter.client.event_feed import Change
from cts_jupyter.client.logs import LogText, read_log
from cts_jupyter.client.lookups import (
    count_states,
    find_containers,
    find_failure,
    find_outputs,
)
from cts_jupyter.client.models import Container, JobDetails, JobOutput, JobPreview
from cts_jupyter.client.resubmit import Overrides, body_of, resubmit
from cts_jupyter.client.transport import CTSClientError, CTSConnectionError
from cts_jupyter.notebook import serialize
from cts_jupyter.notebook.card.card import card_text
from cts_jupyter.notebook.card.data import CardData, card_data
from cts_jupyter.notebook.card.display import CardDisplay
from cts_jupyter.notebook.columns import container_table, output_table
from cts_jupyter.notebook.session import Session
from cts_jupyter.notebook.table import Table

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

_ID_LENGTH = 36
_BACKSTOP_SECONDS = 30.0
"""Between looks at the job while waiting, should an event ever get lost."""


class Job:
    """A job of a service. Whatever asks the service raises CTSClientError."""

    def __init__(self, session: Session, job_id: str, summary: JobPreview | None = None) -> None:
        """``summary`` is what is known already, from a listing."""
        self.id = job_id
        """The job's full id."""
        self._session = session
        self._summary = summary
        self._final: JobDetails | None = None
        self._state = summary.state if summary else None
        self._counts: Mapping[str, int] | None = None
        self._following = False
        self._state_events = 0
        """How often the feed told of its state."""
        self._lock = threading.Lock()
        self._is_ending = False
        self._ended = threading.Event()
        self._lost: CTSClientError | None = None
        self._display = CardDisplay(self._card)
        if self._state is not None and formatting.has_ended(self._state):
            self._ended.set()

    @classmethod
    def submit(cls, session: Session, body: Mapping[str, Any]) -> Self:
        """Submit a job to the session's service, and follow its events. ``body`` is that of the REST API.

        Raises CTSClientError.
        """
        return cls.followed(session, session.client.submit(body))

    @classmethod
    def followed(cls, session: Session, job_id: str) -> Self:
        """Return a job that was just submitted, and follow its events. Raises CTSClientError."""
        job = cls(session, job_id)
        job.follow()
        return job

    @classmethod
    def find(cls, session: Session, reference: str) -> Self:
        """Return the job of a full id, of the beginning of one, or the latest for ``-``.

        Raises JobReferenceError for a reference that fits none or several, CTSClientError.
        """
        if len(reference) < _ID_LENGTH:
            return cls(session, session.find_job_id(reference))
        job = cls(session, reference)
        job.refresh()
        return job

    # State and results.

    @property
    def state(self) -> str:
        """The state now, from events while the job is followed, else from the service."""
        if self._ended.is_set() or (self._following and self._state is not None):
            return str(self._state)
        return self.refresh()

    @property
    def has_ended(self) -> bool:
        """Whether the state will not change any more."""
        return formatting.has_ended(self.state)

    @property
    def summary(self) -> JobPreview:
        """The job without its files, as it was last listed or as it is now."""
        return self._summary or self.details

    @property
    def details(self) -> JobDetails:
        """The whole job as the service has it now."""
        if self._final is None:
            details = self._session.client.job(self.id)
            self._summary = details
            if not formatting.has_ended(details.state):
                return details
            self._final = details
        return self._final

    @property
    def error(self) -> str | None:
        """Why it failed; None for a job that did not."""
        return self.details.error

    @property
    def containers(self) -> Table[Container]:
        """A table of the containers, with state, exit code, files and times of each."""
        return container_table(find_containers(self._session.client, self.id) or [])

    @property
    def outputs(self) -> list[JobOutput]:
        """The files that its completed containers left, with their checksums, whatever became of the others."""
        return find_outputs(self._session.client, self.id)

    def all_outputs(self) -> list[JobOutput]:
        """The outputs of this job, of what it is a resubmission of, and of all resubmissions, as of one job.

        Of an input that several of them completed, and of a path that several wrote, the latest job's count.
        """
        return find_outputs(self._session.client, self.id, family=True)

    def files(self) -> pd.DataFrame | Table[JobOutput]:
        """The outputs as a DataFrame; as a table where there is no pandas."""
        table = output_table(self.outputs, empty="No outputs yet")
        try:
            return table.to_frame()
        except ImportError:
            return table

    def logs(self, container: int = 0, *, stderr: bool = False, tail: int | None = None) -> LogText:
        """The end of a container's log, of its last ``tail`` lines if given."""
        stream = "stderr" if stderr else "stdout"
        return read_log(self._session.client, self.id, container, stream, lines=tail)

    # What can be done with it.

    def wait(self, timeout: float | None = None) -> Job:
        """Wait for the end, however it ends, and return the job.

        Interrupting the wait leaves the job alone. Raises TimeoutError after ``timeout`` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        self.follow()
        while True:
            left = _BACKSTOP_SECONDS
            if deadline is not None:
                left = min(left, deadline - time.monotonic())
            if self._ended.wait(max(left, 0)):
                return self
            if self._lost is not None:
                raise self._lost
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(
                    f"Job {formatting.short_id(self.id)} is still in state {self._state} after {timeout:g} s"
                )
            try:
                self.refresh()
            except CTSConnectionError as e:
                # It may come back, and the job goes on meanwhile.
                log.info("Job %s cannot be looked at now: %s", self.id, e)

    def cancel(self) -> None:
        """Have it stopped. Raises CTSRequestError when it has ended already."""
        self._session.client.cancel(self.id)

    def resubmit(
        self,
        *,
        only_failed: bool = False,
        memory: str | int | None = None,
        runtime: timedelta | None = None,
        output_dir: str | None = None,
    ) -> Job:
        """Submit it again, or only the inputs of containers that did not complete, into a fresh folder.

        Raises ResubmitError. Warns where the service cannot do it by itself.
        """
        changes = Overrides(only_failed, memory, runtime, output_dir)
        job_id, note = resubmit(self._session.client, self.id, changes)
        if note is not None:
            warnings.warn(note, stacklevel=2)
        return Job.followed(self._session, job_id)

    # Written down again.

    def as_line(self, *, tsv: str | Path | None = None) -> str:
        """``%cts submit`` that submits the same; see :func:`cts_jupyter.notebook.serialize.as_line`."""
        return serialize.as_line(body_of(self.details), tsv=None if tsv is None else Path(tsv))

    def as_yaml(self) -> str:
        """A ``%%cts submit`` cell that submits the same."""
        return serialize.as_yaml(body_of(self.details))

    def as_python(self) -> str:
        """Python that submits the same."""
        return serialize.as_python(body_of(self.details))

    def as_word(self) -> str:
        """What stands for the job on a line."""
        return self.id

    # How it follows what happens.

    def follow(self) -> None:
        """Have events tell of the job until it ends."""
        with self._lock:
            if self._following or self._ended.is_set():
                return
            self._following = True
            self._lost = None
        try:
            self._session.feed.subscribe(self.id, self)
            self.refresh()
        except BaseException:
            # An interrupt, too: else the state would be told by events that nobody hears.
            self._unfollow()
            raise

    def refresh(self) -> str:
        """Ask for the state, and return it."""
        state_events = self._state_events
        state = self._session.client.status(self.id).state
        # An answer may be older than what events told meanwhile, which goes on from there; only an end is final.
        if state_events == self._state_events or formatting.has_ended(state):
            self._apply(Change(state=state))
        return state

    def on_change(self, change: Change) -> None:
        """Take in what became known; the feed calls this on its thread."""
        if change.state is not None:
            self._state_events += 1
        self._apply(change)

    def _apply(self, change: Change) -> None:
        with self._lock:
            # A look at the job and an event may come in either order: what has ended stays so.
            if self._is_ending or self._ended.is_set():
                return
            if change.containers is not None:
                self._counts = change.containers
            self._state = change.state or self._state
            self._is_ending = formatting.has_ended(change.state or "")
        if self._is_ending:
            self._finish()
        elif not self._session.connection.is_page_server:
            self._display.update_soon()

    def on_lost(self, error: CTSClientError) -> None:
        """The feed is refused; who waits is told."""
        self._following = False
        self._lost = error

    def _finish(self) -> None:
        # The card first: who waits may end the cell, and with it the time in which a display can be updated.
        try:
            self._display.update_now()
        finally:
            self._unfollow()
            self._ended.set()

    def _unfollow(self) -> None:
        self._following = False
        self._session.feed.unsubscribe(self.id, self)

    # How it looks.

    def _card(self) -> CardData:
        client = self._session.client
        details = self.details
        containers = None
        failure = None
        if details.state == "error":
            containers = find_containers(client, self.id)
            failure = find_failure(client, self.id, containers or [])
        counts = self._counts if not formatting.has_ended(details.state) else None
        return card_data(
            details,
            service=self._session.where,
            counts=counts or count_states(client, details, containers),
            failure=failure,
        )

    def describe(self) -> str:
        """The card as text."""
        return card_text(self._card())

    def _ipython_display_(self) -> None:
        self.show(is_result_too=False)

    def show(self, *, is_result_too: bool = True) -> None:
        """Show the card now; the same cell does not show it once more if the job is its result, too."""
        self.follow()
        shown = self._display.show(
            is_live=self._session.connection.is_page_server, is_result_too=is_result_too
        )
        # It may have ended between the look that the card was made of and the card's being there.
        if shown is not None and self._ended.is_set() and not formatting.has_ended(shown.state):
            self._display.update_now()

    def show_end(self) -> None:
        """Show the card once more where what was shown cannot change, such as in a terminal."""
        if not self._display.can_update:
            self._display.show(is_live=False, is_result_too=True)

    def __repr__(self) -> str:
        state = formatting.format_state(self._state) if self._state else "not looked at yet"
        return f"<Job {formatting.short_id(self.id)}: {state}>"
