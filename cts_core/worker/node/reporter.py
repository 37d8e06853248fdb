"""Reports a container's progress on a node to the service.

The container never waits for the service: while it runs, a thread reports its events and uploads its logs. Events that
could not be reported by then are reported at the end, with retries.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from contextlib import contextmanager
from typing import Any, Deque, Iterator, Mapping

from cts_core.worker.container.log_uploader import LogUploader
from cts_core.worker.container_folder import now
from cts_core.worker.files import escape_surrogates
from cts_core.worker.node.api_client import (
    ApiClient,
    ServiceError,
    ServiceRefusedError,
    retry_delay,
)

log = logging.getLogger(__name__)

_TICK_SECONDS = 0.5
_MAX_DELAY_SECONDS = 60.0
"""The longest delay between two tries while the container runs."""


class Reporter:
    """A ProgressListener that reports to the service."""

    def __init__(self, *, once: ApiClient, persistent: ApiClient, logs: LogUploader) -> None:
        """``once`` tries each call once, and ``persistent`` retries it."""
        self._once = once
        self._persistent = persistent
        self._logs = logs
        self._pending: Deque[Mapping[str, Any]] = deque()
        self._tries, self._not_before = 0, 0.0

    def on_event(self, event: Mapping[str, Any]) -> None:
        """See ProgressListener."""
        self._pending.append(event)
        self._try_send()

    @contextmanager
    def while_running(self) -> Iterator[None]:
        """See ProgressListener."""
        is_over = threading.Event()
        thread = threading.Thread(
            target=self._report_while_running, args=(is_over,), name="reporter"
        )
        thread.start()
        try:
            yield
        finally:
            # The final logs are uploaded after this, and must not be replaced by older ones.
            is_over.set()
            self._logs.cancel()
            thread.join()

    def _report_while_running(self, is_over: threading.Event) -> None:
        while not is_over.wait(_TICK_SECONDS):
            self._try_send()
            self._logs.upload_if_due()

    def finish(self, result: Mapping[str, Any]) -> None:
        """Report the pending events and then the result. Raises ServiceError."""
        self._send(self._persistent)
        body = escape_surrogates({"time": now(), **result})
        try:
            self._persistent.update(body.pop("state"), body)
        except ServiceRefusedError as e:
            # Such as for more outputs than the service takes: this report is short.
            message = (
                f"The container reached the state {result['state']}, with {len(result.get('outputs', ()))} outputs "
                f"stored, and its worker could not tell the service so: {e}"
            )
            errors = {"error": result.get("error") or message, "admin_error": message}
            code = result.get("exit_code")
            self._persistent.update(
                "error", escape_surrogates({"time": now(), **errors, "exit_code": code})
            )

    def _try_send(self) -> None:
        """Report the pending events, unless the last try has just failed."""
        if time.monotonic() < self._not_before:
            return
        try:
            self._send(self._once)
            self._tries = 0
        except ServiceError as e:
            self._tries += 1
            self._not_before = time.monotonic() + retry_delay(self._tries, _MAX_DELAY_SECONDS)
            log.warning("An update was not reported, and is retried: %s", e)

    def _send(self, client: ApiClient) -> None:
        while self._pending:
            event = dict(self._pending[0])
            state = event.pop("state")
            try:
                client.update(state, event)
                log.info("%s", state)
            except ServiceRefusedError as e:
                # Only the end counts, which can be reported from any state.
                log.warning("The service did not take %s: %s", state, e)
            self._pending.popleft()
