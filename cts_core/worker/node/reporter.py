"""Tells the service how far a container on a node is.

The container waits for nobody: while it runs, a thread tells what waits to be told, and shows the logs. What the service
could not be told by then is told at the end, for as long as it takes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from contextlib import contextmanager
from typing import Any, Deque, Iterator, Mapping

from cts_core.worker.container.log_uploader import LiveLogs
from cts_core.worker.container_folder import now
from cts_core.worker.files import escape_surrogates
from cts_core.worker.node.api_client import Service, ServiceError, ServiceRefusedError, backoff

log = logging.getLogger(__name__)

_TICK_SECONDS = 0.5
_MAX_PAUSE_SECONDS = 60.0
"""The most between two tries while the container runs."""


class Reporter:
    """See Audience."""

    def __init__(self, *, hurried: Service, patient: Service, logs: LiveLogs) -> None:
        """``hurried`` is tried once each time, and ``patient`` for long."""
        self._hurried = hurried
        self._patient = patient
        self._logs = logs
        self._waiting: Deque[Mapping[str, Any]] = deque()
        self._tries, self._not_before = 0, 0.0

    def tell(self, event: Mapping[str, Any]) -> None:
        """See Audience."""
        self._waiting.append(event)
        self._try()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """See Audience."""
        over = threading.Event()
        thread = threading.Thread(target=self._accompany, args=(over,), name="reporter")
        thread.start()
        try:
            yield
        finally:
            # What is stored after this is the last of the logs, and nothing older may come after it.
            over.set()
            self._logs.end()
            thread.join()

    def _accompany(self, over: threading.Event) -> None:
        while not over.wait(_TICK_SECONDS):
            self._try()
            self._logs.show()

    def finish(self, result: Mapping[str, Any]) -> None:
        """Tell how the container ended, and before that what waits. Raises ServiceError."""
        self._send(self._patient)
        said = escape_surrogates({"time": now(), **result})
        try:
            self._patient.update(said.pop("state"), said)
        except ServiceRefusedError as e:
            # Such as of more outputs than it takes: what is told at least is short.
            words = (
                f"The container reached the state {result['state']}, with {len(result.get('outputs', ()))} outputs "
                f"stored, and its worker could not tell the service so: {e}"
            )
            told = {"error": result.get("error") or words, "admin_error": words}
            code = result.get("exit_code")
            self._patient.update(
                "error", escape_surrogates({"time": now(), **told, "exit_code": code})
            )

    def _try(self) -> None:
        """Tell what waits, unless the last try has just failed."""
        if time.monotonic() < self._not_before:
            return
        try:
            self._send(self._hurried)
            self._tries = 0
        except ServiceError as e:
            self._tries += 1
            self._not_before = time.monotonic() + backoff(self._tries, _MAX_PAUSE_SECONDS)
            log.warning("Told later: %s", e)

    def _send(self, service: Service) -> None:
        while self._waiting:
            event = dict(self._waiting[0])
            state = event.pop("state")
            try:
                service.update(state, event)
                log.info("%s", state)
            except ServiceRefusedError as e:
                # The end is what counts, and it can be told from any state.
                log.warning("The service did not take %s: %s", state, e)
            self._waiting.popleft()
