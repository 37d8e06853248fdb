"""A job in Python: its state, results and actions, and its card in a notebook."""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from cts_jupyter import formatting
from cts_jupyter.client.event_feed import Change
from cts_jupyter.client.logs import PlainText, read_log
from cts_jupyter.client.lookups import (
    count_states,
    find_containers,
    find_outputs,
    find_why,
)
from cts_jupyter.client.models import Container, JobDetails, JobOutput, JobPreview, S3File
from cts_jupyter.client.resubmit import Overrides, body_of, resubmit
from cts_jupyter.client.transport import (
    CTSClientError,
    CTSRequestError,
    is_away,
    is_unsupported,
)
from cts_jupyter.notebook import patterns, serialize
from cts_jupyter.notebook.card.card import card_text
from cts_jupyter.notebook.card.data import CardData, card_data
from cts_jupyter.notebook.card.display import CardDisplay
from cts_jupyter.notebook.check_report import CheckReport, resubmission_warnings
from cts_jupyter.notebook.columns import Verdict, container_table, input_table, output_table
from cts_jupyter.notebook.last_submission import note_accepted, submitting
from cts_jupyter.notebook.output_folder import (
    check_output_folder,
    check_repeated,
    find_repeated,
    find_rival,
)
from cts_jupyter.notebook.session import Session
from cts_jupyter.notebook.table import Table
from cts_jupyter.notebook.typed_paths import object_path
from cts_jupyter.notebook.verification import verify_files

log = logging.getLogger(__name__)

_ID_LENGTH = 36
_BACKSTOP_SECONDS = 30.0
"""The interval at which a waiting job is polled, in case an event is lost."""


class Job:
    """A job of a service. Everything that sends a request raises CTSClientError."""

    def __init__(self, session: Session, job_id: str, summary: JobPreview | None = None) -> None:
        """``summary`` is the job as a listing returned it."""
        self.id = job_id
        """The job's full id."""
        self._session = session
        self._summary = summary
        self._final: JobDetails | None = None
        self._state = summary.state if summary else None
        self._counts: Mapping[str, int] | None = summary.containers if summary else None
        self._following = False
        self._state_events = 0
        """The number of states that the feed has reported."""
        self._lock = threading.Lock()
        self._is_ending = False
        self._ended = threading.Event()
        self._lost: CTSClientError | None = None
        self._display = CardDisplay(self._card)
        self._watchers: list[Callable[[], None]] = []
        if self._state is not None and formatting.has_ended(self._state):
            self._ended.set()

    @classmethod
    def submit(cls, session: Session, body: Mapping[str, Any]) -> Self:
        """Submit a job to the session's service, and follow its events. ``body`` is that of the REST API.

        Raises CTSClientError.
        """
        with submitting():
            job = cls.accepted(session, session.client.submit(body))
        job.try_to_follow()
        return job

    @classmethod
    def accepted(cls, session: Session, job_id: str) -> Self:
        """Return the job of a submission that the service has just accepted."""
        note_accepted(session.name, job_id)
        return cls(session, job_id)

    @classmethod
    def find(cls, session: Session, reference: str) -> Self:
        """Return the job of a full id, of the beginning of one, or that ``-`` stands for.

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
        """The state now, from events while the job is followed, else from the service.

        It is the service's, but a job some of whose containers have begun is ``job_submitted``, whatever others wait for.
        """
        if not self._ended.is_set() and not (self._following and self._state is not None):
            self.refresh()
        return self._shown_state

    @property
    def _shown_state(self) -> str:
        return formatting.shown_state(str(self._state), self._counts or {})

    @property
    def known_state(self) -> str:
        """The state as it was last heard of, without a request; empty before the first."""
        return self._shown_state if self._state else ""

    @property
    def known_counts(self) -> Mapping[str, int]:
        """How many containers are in which state, as was last heard of."""
        return self._counts or {}

    @property
    def has_ended(self) -> bool:
        """Whether the state is final."""
        return formatting.has_ended(self.state)

    @property
    def summary(self) -> JobPreview:
        """The job without its files, as it was last listed or as it is now."""
        return self._summary or self._session.client.job_preview(self.id)

    @property
    def details(self) -> JobDetails:
        """The whole job, as the service has it now."""
        if self._final is None:
            details = self._session.client.job(self.id)
            self._summary = details
            if not formatting.has_ended(details.state):
                return details
            self._final = details
        return self._final

    @property
    def error(self) -> str | None:
        """The reason why it failed; None for a job that did not."""
        return self.details.error

    @property
    def containers(self) -> Table[Container]:
        """A table of the containers, with state, exit code, files and times of each."""
        return container_table(find_containers(self._session.client, self.id) or [])

    @property
    def inputs(self) -> Table[S3File]:
        """A table of the inputs with the checksums that they had at submission; ``to_frame()`` makes it a DataFrame."""
        return input_table(self.details.job_input.input_files)

    @property
    def outputs(self) -> Table[JobOutput]:
        """A table of the completed containers' outputs with their checksums, whether or not other containers failed."""
        return output_table(find_outputs(self._session.client, self.id))

    def all_outputs(self) -> Table[JobOutput]:
        """Return the outputs of this job, of the job that it resubmits, and of all resubmissions, as if they were one.

        Where several of them completed an input or wrote a path, the latest job's output is taken.
        """
        return output_table(find_outputs(self._session.client, self.id, family=True))

    def files(self) -> Table[JobOutput]:
        """Return the same as :attr:`outputs`."""
        return self.outputs

    def verify(self, *, family: bool = False) -> Table[Verdict]:
        """Have the service read every output whole, and compare it with the checksum that the job recorded.

        With ``family``, also what the job's resubmissions left, and what it is a resubmission of. Raises VerifyError for outputs that
        have changed or are missing, CTSClientError.
        """
        return verify_files(self._session.client, self.all_outputs() if family else self.outputs)

    def logs(
        self, container: int = 0, *, stderr: bool = False, tail: int | None = None
    ) -> PlainText:
        """Return the end of a container's log; with ``tail`` at most that many lines."""
        stream = "stderr" if stderr else "stdout"
        return read_log(self._session.client, self.id, container, stream, lines=tail)

    # Actions.

    def wait(self, timeout: float | None = None) -> Job:
        """Wait until the job has ended, successfully or not, and return it.

        Interrupting the wait does not affect the job. Raises TimeoutError after ``timeout`` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        reason = ""
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
                    f"Job {formatting.short_id(self.id)} is still in state {self._shown_state} after {timeout:g} s"
                )
            try:
                self.refresh()
            except CTSClientError as e:
                if not is_away(e):
                    raise
                # The service may come back, and the job continues meanwhile.
                if str(e) != reason:
                    log.warning("Job %s cannot be read now, and is asked for again: %s", self.id, e)
                reason = str(e)

    def cancel(self) -> None:
        """Cancel the job. Raises CTSRequestError when it has ended already."""
        self._session.client.cancel(self.id)

    def resubmit(
        self,
        *,
        only_failed: bool = False,
        containers: Sequence[int] | None = None,
        memory: str | int | None = None,
        runtime: timedelta | None = None,
        output_dir: str | None = None,
        refresh_inputs: bool = False,
        overwrite: bool = False,
    ) -> Job:
        """Submit the job again, or only the inputs of containers that did not complete, and return the new job.

        Args:
            only_failed: Only the inputs of containers that did not complete.
            containers: Of these, only those with these numbers.
            memory: Bytes, or text such as ``"40GB"``, instead of the first job's.
            runtime: Instead of the first job's.
            output_dir: Instead of an empty folder beside the first one.
            refresh_inputs: Take inputs as they are now; otherwise those that have changed are refused.
            overwrite: Although ``output_dir`` is not empty, a live job stores outputs there, or the same was resubmitted.

        Raises:
            OutputFolderError: ``output_dir`` is not empty, a live job stores outputs there, or the same was resubmitted.
            ResubmitError: Nothing of it failed, the service cannot say what did, or ``containers`` without ``only_failed``.
            CTSClientError: The service refused, or cannot be reached.

        Warns where containers may overwrite each other's outputs, where they failed for want of memory or runtime and have no
        more of it now, and where the service lacks resubmission, so that the new job does not refer to this one.
        """
        if output_dir is not None:
            output_dir = object_path(output_dir)
        overrides = Overrides(only_failed, memory, runtime, output_dir, refresh_inputs, containers)
        if output_dir is not None and not overwrite:
            check_output_folder(self._session.client, output_dir)
        if not overwrite:
            check_repeated(self._session.client, self.id, overrides)
        job_id, note = resubmit(self._session.client, self.id, overrides)
        job = Job.accepted(self._session, job_id)
        job.try_to_follow()
        if note is not None:
            warnings.warn(note, stacklevel=2)
        for warning in resubmission_warnings(self._session.client, self.id, job.id, overrides):
            warnings.warn(warning, stacklevel=2)
        return job

    def check_resubmission(
        self,
        *,
        only_failed: bool = False,
        containers: Sequence[int] | None = None,
        memory: str | int | None = None,
        runtime: timedelta | None = None,
        output_dir: str | None = None,
        refresh_inputs: bool = False,
        overwrite: bool = False,
    ) -> CheckReport:
        """Make every check of :meth:`resubmit`, which has the same arguments, without running or storing anything.

        Raises CTSClientError: the service refused, cannot check a resubmission, or cannot be reached.
        """
        client = self._session.client
        if output_dir is not None:
            output_dir = object_path(output_dir)
        overrides = Overrides(only_failed, memory, runtime, output_dir, refresh_inputs, containers)
        result = client.check_resubmission(
            self.id,
            failed=only_failed,
            containers=containers,
            memory=memory,
            runtime=runtime,
            output_dir=output_dir,
            refresh_inputs=refresh_inputs,
        )
        rival = None
        if not overwrite:
            # Nobody writes to a fresh folder.
            rival = find_rival(client, output_dir) if output_dir is not None else None
            rival = rival or find_repeated(client, self.id, overrides)
        body = self.summary.job_input.model_dump(mode="json", exclude_none=True)
        return CheckReport(
            result, {**overrides.on(body), "output_dir": result.output_dir}, rival=rival
        )

    # Serialization.

    def methods(self) -> PlainText:
        """Return a paragraph for a paper: image and digest, command line, inputs, reference data, resources, when and where."""
        try:
            return PlainText(self._session.client.methods(self.id))
        except CTSRequestError as e:
            if not is_unsupported(e):
                raise
            raise e.reworded(
                f"The service at {self._session.where} is older than this, and describes no job for a paper"
            ) from e

    def as_line(self, *, tsv: str | Path | None = None) -> str:
        """Return the ``%cts submit`` line that submits the same.

        The inputs of a job that this kernel submitted by a pattern or a folder are named so: the line takes what is
        there when it runs.

        Args:
            tsv: A file to write the inputs to, with the data ids and checksums that a line cannot hold.

        Raises:
            SerializeError: The job has inputs that need ``tsv``.
        """
        return serialize.as_line(
            body_of(self.details),
            tsv=None if tsv is None else Path(tsv),
            sources=patterns.recall(self.id),
        )

    def as_yaml(self) -> str:
        """Return the ``%%cts submit`` cell that submits the same."""
        return serialize.as_yaml(body_of(self.details))

    def as_python(self) -> str:
        """Return the Python code that submits the same."""
        return serialize.as_python(body_of(self.details))

    def as_word(self) -> str:
        """Return the word for the job on a line of ``%cts``: its id."""
        return self.id

    # Events.

    def follow(self) -> None:
        """Follow the job's events until it ends."""
        with self._lock:
            if self._following or self._ended.is_set():
                return
            self._following = True
            self._lost = None
        try:
            self._session.feed.subscribe(self.id, self)
            self.refresh()
        except BaseException:
            # An interrupt, too: else the state would wait for events that never come.
            self._unfollow()
            raise

    def watch(self, watcher: Callable[[], None]) -> None:
        """Follow the job, and call a function after each change, on any thread; it must return quickly. Raises CTSClientError."""
        self._watchers.append(watcher)
        self.follow()

    def unwatch(self, watcher: Callable[[], None]) -> None:
        """Call a function no more."""
        self._watchers.remove(watcher)

    def try_to_follow(self) -> None:
        """Follow the job's events if the service answers now; whoever waits for the job or shows it tries again."""
        try:
            self.follow()
        except CTSClientError as e:
            log.info("Job %s cannot be followed now: %s", self.id, e)

    def refresh(self) -> str:
        """Request the state, and return it."""
        state_events = self._state_events
        status = self._session.client.status(self.id, containers=True)
        state = status.state
        # A response may be older than an event that came meanwhile; only a final state is certain to be newer.
        if state_events == self._state_events or formatting.has_ended(state):
            self._apply(Change(state=state, containers=status.containers or None))
        return state

    def on_change(self, change: Change) -> None:
        """Apply a change; the feed calls this on its thread."""
        if change.state is not None:
            self._state_events += 1
        self._apply(change)

    def _apply(self, change: Change) -> None:
        with self._lock:
            # A response and an event may come in either order: a final state stays.
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
        for watcher in list(self._watchers):
            watcher()

    def on_lost(self, error: CTSClientError) -> None:
        """Stop following, as the service refuses the feed; ``wait`` raises the error."""
        self._following = False
        self._lost = error

    def _finish(self) -> None:
        # The card first: after the wait the cell may end, and then a display cannot be updated any more.
        try:
            self._display.update_now()
        finally:
            self._unfollow()
            self._ended.set()

    def _unfollow(self) -> None:
        self._following = False
        self._session.feed.unsubscribe(self.id, self)

    # Display.

    def _card(self) -> CardData:
        client = self._session.client
        details = self.details
        containers = None
        if details.job_input.num_containers > 1 or details.state == "error":
            containers = find_containers(client, self.id)
        why = find_why(client, details, containers) if details.state == "error" else None
        counts = self._counts if not formatting.has_ended(details.state) else None
        return card_data(
            details,
            service=self._session.where,
            instance=self._session.instance,
            containers=containers or [],
            counts=counts or count_states(client, details, containers),
            reasons=why.reasons if why else (),
        )

    def describe(self) -> str:
        """Return the card as text."""
        return card_text(self._card())

    def _ipython_display_(self) -> None:
        self.show(is_result_too=False)

    def show(self, *, is_result_too: bool = True) -> None:
        """Show the card now; the cell does not show it again if the job is also its result."""
        self.follow()
        shown = self._display.show(
            is_live=self._session.connection.is_page_server, is_result_too=is_result_too
        )
        # The job may have ended after it was read for the card and before the card was displayed.
        if shown is not None and self._ended.is_set() and not formatting.has_ended(shown.state):
            self._display.update_now()

    def show_end(self) -> None:
        """Show the card again where a shown card cannot be updated, such as in a terminal."""
        if not self._display.can_update:
            self._display.show(is_live=False, is_result_too=True)

    def headline(self) -> str:
        """Return the job's id and state as a line."""
        state = formatting.format_state(self._shown_state) if self._state else "not looked at yet"
        return f"Job {formatting.short_id(self.id)}: {state}"

    def __repr__(self) -> str:
        return formatting.printable_line(f"<{self.headline()}>")
