"""Clients that use the service whatever befalls it, and note each request with its answer."""

from __future__ import annotations

import json
import random
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx

from cts_core.worker.checksum import crc64nvme_text
from tests.faults.nemesis.history import Action, Call
from tests.faults.nemesis.service import NemesisHarness, Work
from tests.harness.faults import Subscriber

TIMEOUT_SECONDS = 15.0
"""Within which a client expects a whole answer."""
MAX_CONTAINERS = 3
_FAILING = 0.2
"""The share of jobs of which a container fails."""
_LONG_SECONDS = 3600.0
"""The work of a container that runs until it is canceled."""
_PAUSES = (0.2, 1.5)
_RETRY_SECONDS = 0.5
_MAX_WATCHERS = 6
"""Streams of single jobs that are open at the same time."""
_LIST_LIMIT = 1000


class Journal:
    """What all clients did, and what they know of jobs and objects."""

    def __init__(self, began: float) -> None:
        self._began = began
        self.calls: list[Call] = []
        self.jobs: list[str] = []
        """The jobs that were accepted."""
        self.endless: set[str] = set()
        """Those that only a cancel ends."""
        self.ended: list[str] = []
        """The others that a client has seen at their end."""
        self.objects: list[str] = []
        """The objects that were stored."""
        self.watchers: list[Subscriber] = []
        self.unanswered: list[tuple[str, str]] = []
        """What a client did not get done in the end."""

    def now(self) -> float:
        return time.monotonic() - self._began


class Client:
    """One user's program: it asks any server, and repeats what it may until it is done."""

    def __init__(self, name: str, seed: int, journal: Journal, harness: NemesisHarness) -> None:
        self.name = name
        self._choice = random.Random(f"{seed} {name}")
        self._journal = journal
        self._harness = harness
        self._headers = {"Authorization": f"Bearer {harness.user_token}"}
        self._sent: list[Callable[[], Call]] = []
        """The requests with a key that were answered with a job."""
        self._stopping = threading.Event()
        self._deadline = float("inf")

    def stop(self, deadline: float) -> None:
        """Begin nothing new; what was begun is repeated until ``deadline`` of the monotonic clock."""
        self._deadline = deadline
        self._stopping.set()

    def run(self) -> None:
        """Use the service until ``stop`` is called."""
        actions = (
            (6, self._submit),
            (2, self._submit_once),
            (2, self._submit_and_cancel),
            (2, self._repeat),
            (2, self._resubmit),
            (1, self._cancel_any),
            (4, self._read_status),
            (1, self._list),
            (2, self._put),
            (2, self._get),
        )
        weights = [weight for weight, _ in actions]
        while not self._stopping.wait(self._choice.uniform(*_PAUSES)):
            self._choice.choices([act for _, act in actions], weights)[0]()

    # -- what a client does ----------------------------------------------------------------------

    def _submission(self, seconds: float | None = None) -> dict[str, Any]:
        return self._harness.body(
            Work(
                folder=f"data/ana/{uuid.uuid4().hex}",
                seconds=self._choice.uniform(0, 3) if seconds is None else seconds,
                containers=self._choice.randint(1, MAX_CONTAINERS),
                fails=self._choice.random() < _FAILING,
            )
        )

    def _submit(self) -> None:
        self._send_keyed("submit", "jobs", "jobs", self._submission())

    def _submit_once(self) -> None:
        """Submit without a key: whoever gets no answer may not repeat it."""
        self._accept(self._call("submit", "jobs", "POST", "jobs", json=self._submission()))

    def _submit_and_cancel(self) -> None:
        job_id = self._send_keyed("submit", "jobs", "jobs", self._submission(_LONG_SECONDS))
        if job_id is not None:
            self._journal.endless.add(job_id)
            self._stopping.wait(self._choice.uniform(0, 4))
            self._cancel(job_id)

    def _repeat(self) -> None:
        """Send an earlier submission with its key again, as after a lost answer."""
        if self._sent:
            self._choice.choice(self._sent)()

    def _resubmit(self) -> None:
        if not self._journal.ended:
            return
        job_id = self._choice.choice(self._journal.ended)
        body = {"failed": True} if self._choice.random() < 0.5 else {}
        if self._choice.random() < 0.5:
            self._send_keyed("resubmit", job_id, f"jobs/{job_id}/resubmit", body)
        else:
            path = f"jobs/{job_id}/resubmit"
            self._accept(self._call("resubmit", job_id, "POST", path, json=body))

    def _cancel_any(self) -> None:
        if self._journal.jobs:
            self._cancel(self._choice.choice(self._journal.jobs[-20:]))

    def _cancel(self, job_id: str) -> None:
        self._until_answered(
            lambda: self._call("cancel", job_id, "PUT", f"jobs/{job_id}/cancel"), (204, 404)
        )

    def _read_status(self) -> None:
        if self._journal.jobs:
            job_id = self._choice.choice(self._journal.jobs[-50:])
            self._call("status", job_id, "GET", f"jobs/{job_id}/status")

    def _list(self) -> None:
        self._call("list", "jobs", "GET", f"jobs?limit={_LIST_LIMIT}")

    def _put(self) -> None:
        content = self._choice.randbytes(self._choice.choice((0, 100, 100_000)))
        path = f"data/ana/put-{uuid.uuid4().hex}"
        call = self._until_answered(
            lambda: self._call(
                "put", path, "PUT", f"files/content?path={path}&overwrite=true", content=content
            ),
            (200, 507),
        )
        if call is not None and call.succeeded:
            self._journal.objects.append(path)

    def _get(self) -> None:
        if self._journal.objects:
            path = self._choice.choice(self._journal.objects)
            self._call("get", path, "GET", f"files/content?path={path}")

    # -- how it asks -----------------------------------------------------------------------------

    def _send_keyed(
        self, action: Action, subject: str, path: str, body: dict[str, Any]
    ) -> str | None:
        key = uuid.uuid4().hex

        def send() -> Call:
            return self._call(action, subject, "POST", path, key=key, json=body)

        call = self._until_answered(send, (200, 400))
        if call is None or not call.succeeded:
            return None
        self._sent.append(send)
        return self._accept(call)

    def _accept(self, call: Call) -> str | None:
        if not call.succeeded:
            return None
        [job_id] = call.result
        journal = self._journal
        journal.jobs.append(job_id)
        alive = sum(watcher.is_alive() for watcher in journal.watchers)
        if alive < _MAX_WATCHERS and self._choice.random() < 0.5:
            fronts = self._harness.fronts
            servers = self._choice.sample(fronts, len(fronts))
            watcher = Subscriber(servers, self._harness.user_token, job_id)
            journal.watchers.append(watcher)
            watcher.start()
        return job_id

    def _until_answered(self, call: Callable[[], Call], expected: tuple[int, ...]) -> Call | None:
        """Repeat a call until it is answered with one of these; return that, or None if the time is over."""
        while True:
            last = call()
            if last.status in expected and last.appcode != 60020:
                return last
            if last.status not in (None, 400, 429, 503):
                return None  # the checker finds it
            if time.monotonic() > self._deadline:
                self._journal.unanswered.append((self.name, f"not done in the end: {last}"))
                return None
            time.sleep(_RETRY_SECONDS)

    def _call(
        self,
        action: Action,
        subject: str,
        method: str,
        path: str,
        *,
        key: str | None = None,
        **given: Any,
    ) -> Call:
        """Ask one server once, and note what it answers."""
        server = self._choice.choice(self._harness.fronts)
        headers = {**self._headers, **({"Idempotency-Key": key} if key else {})}
        began, status, appcode, message = self._journal.now(), None, None, ""
        result: tuple[str, ...] = ()
        try:
            answer = httpx.request(
                method, f"{server.url}/{path}", headers=headers, timeout=TIMEOUT_SECONDS, **given
            )
            status = answer.status_code
            if answer.is_success:
                result = _result(action, answer, given.get("content"))
            else:
                error = answer.json()["error"]
                appcode, message = error.get("appcode"), error.get("message", "")
        except (httpx.HTTPError, json.JSONDecodeError) as e:
            message = repr(e)
        call = Call(
            action=action,
            subject=subject,
            began=began,
            ended=self._journal.now(),
            server=server.name,
            status=status,
            appcode=appcode,
            key=key,
            result=result,
            message=message,
        )
        self._journal.calls.append(call)
        has_ended = action == "status" and call.succeeded and result[-1] in _ENDS
        if has_ended and subject not in self._journal.endless:
            self._journal.ended.append(subject)
        return call


_ENDS = ("complete", "error", "canceled")


def _result(action: Action, answer: httpx.Response, content: bytes | None) -> tuple[str, ...]:
    match action:
        case "submit" | "resubmit":
            return (answer.json()["job_id"],)
        case "status":
            return tuple(step["state"] for step in answer.json()["transition_times"])
        case "list":
            return tuple(job["id"] for job in answer.json()["jobs"])
        case "put" if content is not None:
            return (crc64nvme_text(content),)
        case "get":
            return (crc64nvme_text(answer.content),)
    return ()
