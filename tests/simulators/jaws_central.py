"""A simulator of JAWS central: the calls of the contract, strictly, over real sockets.

Alone it runs nothing: a test moves its runs. ``jaws_sites`` adds the command ``jaws`` at NERSC, and sites that run.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.simulators.server import PreparedResponse, SimulatorServer

_API = "/api/v2/"
SITES = ("kbase", "jgi")
_RUN_QUERY = {"verbose": ["true"], "local_tz": ["UTC"]}


class RefusalError(Exception):
    """What JAWS refuses a call with."""

    def __init__(self, status: int, detail: object) -> None:
        super().__init__(detail)
        self.response = PreparedResponse(status, json.dumps({"detail": detail}).encode())


@dataclass
class JAWSRun:
    """A run; ``log`` are the statuses that it has passed."""

    id: int
    tag: str
    status: str = "created"
    result: str | None = None
    output_dir: str | None = None
    log: list[str] = field(default_factory=lambda: ["created"])
    site: str = "kbase"
    submitted: datetime = field(default_factory=lambda: datetime.now(UTC))
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Set for the site that runs it."""
    ended: threading.Event = field(default_factory=threading.Event)

    def move(self, status: str, result: str | None = None) -> None:
        self.status, self.result = status, result
        self.log.append(status)


@dataclass
class JAWS:
    """JAWS central with one user, the calls so far, and faults that a test sets."""

    user: str = "cdm_ts"
    token: str = "jaws-token"
    runs: dict[int, JAWSRun] = field(default_factory=dict)
    sites: dict[str, dict[str, str]] = field(
        default_factory=lambda: {
            site: {f"{site}-{part}": "UP" for part in ("Site", "Cromwell", "HTCondor")}
            for site in SITES
        }
    )
    has_search: bool = True
    delay: float = 0.0
    """Seconds before each answer."""
    override: PreparedResponse | None = None
    """Sent instead of every regular answer."""
    calls: list[str] = field(default_factory=list)
    """Method and path of each call, in order."""
    searches: list[int] = field(default_factory=list)
    """The days that each search asked for; 0 stands for any time."""
    take: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    """Takes what the client submits, and returns what it prints."""

    def __post_init__(self) -> None:
        self._server = SimulatorServer(self.respond)
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"{self._server.url}/"

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        for run in list(self.runs.values()):
            run.cancelled.set()
        self._server.stop()

    def submit(self, tag: str, site: str = "kbase") -> JAWSRun:
        """Add a run, as ``jaws submit`` on Perlmutter does."""
        with self._lock:
            run = JAWSRun(1000 + len(self.runs), tag, site=site)
            self.runs[run.id] = run
        return run

    def advance(self, run: JAWSRun, status: str, result: str | None = None) -> None:
        """Move a run, unless it was cancelled."""
        with self._lock:
            if not run.cancelled.is_set():
                run.move(status, result)

    def respond(self, method: str, target: str, headers: Any, body: bytes) -> PreparedResponse:
        url = urlsplit(target)
        self.calls.append(f"{method} {url.path}")
        time.sleep(self.delay)
        if self.override is not None:
            return self.override
        try:
            answer = self._answer(
                f"{method} {url.path.removeprefix(_API)}", url.query, headers, body
            )
        except RefusalError as e:
            return e.response
        return PreparedResponse(200, json.dumps(answer).encode())

    def _answer(self, called: str, query: str, headers: Any, body: bytes) -> Any:
        if headers.get("Authorization") != f"Bearer {self.token}":
            raise RefusalError(401, "Provided token is not valid")
        asked = parse_qs(query, strict_parsing=True) if query else {}
        routes: dict[str, Callable[..., Any]] = {
            r"GET user": lambda: {"uid": self.user, "name": "CTS", "email": "x@example.org"},
            r"GET run/(\d+)": lambda run_id: self._view(run_id, asked),
            r"GET run/(\d+)/run_log": lambda run_id: self._log(run_id, asked),
            r"GET status/([\w-]+)": lambda site: self.sites.get(
                site, {f"{site}-Site": "UNKNOWN SITE"}
            ),
            r"PUT run/(\d+)/cancel": self._cancel,
            r"POST search": lambda: self._search(headers, body),
            r"POST run": lambda: self._take(json.loads(body)),
        }
        for pattern, call in routes.items():
            if match := re.fullmatch(pattern, called):
                return call(*match.groups())
        raise RefusalError(404, "Not Found")

    def _take(self, asked: dict[str, Any]) -> dict[str, Any]:
        if self.take is None:
            raise RefusalError(404, "Not Found")
        return self.take(asked)

    def _find(self, run_id: str) -> JAWSRun:
        if int(run_id) not in self.runs:
            raise RefusalError(404, {"error": f"Run {run_id} not found"})
        return self.runs[int(run_id)]

    def _view(self, run_id: str, asked: dict[str, list[str]]) -> dict[str, Any]:
        if asked != _RUN_QUERY:
            raise RefusalError(422, "ask with verbose and local_tz")
        run = self._find(run_id)
        return {
            "id": run.id,
            "status": run.status,
            "result": run.result,
            "submitted": "2026-11-29 12:00:00",
            "updated": "2026-11-29 12:00:00",
            "output_dir": run.output_dir,
            "tag": run.tag,
            "site_id": run.site,
        }

    def _log(self, run_id: str, asked: dict[str, list[str]]) -> dict[str, Any]:
        if asked != {"local_tz": ["UTC"]}:
            raise RefusalError(422, "ask with local_tz")
        log = self._find(run_id).log
        rows = [[before, after, "2026-11-29 12:00:00", ""] for before, after in pairwise(log)]
        return {"header": ["STATUS_FROM", "STATUS_TO", "TIMESTAMP", "COMMENT"], "data": rows}

    def _cancel(self, run_id: str) -> dict[str, Any]:
        run = self._find(run_id)
        with self._lock:
            return self._cancel_run(run)

    def _cancel_run(self, run: JAWSRun) -> dict[str, Any]:
        if "cancelled" in run.log:
            raise RefusalError(400, {"error": f"Run {run.id} has already been cancelled"})
        if run.status in ("done", "download complete"):
            raise RefusalError(400, {"error": "It is too late to cancel this run"})
        run.cancelled.set()
        run.move("cancelled", "cancelled")
        if self.take is not None:
            run.move("done", "cancelled")
        return {str(run.id): True}

    def _search(self, headers: Any, body: bytes) -> list[dict[str, Any]]:
        if not self.has_search:
            raise RefusalError(404, "Not Found")
        form = parse_qs(body.decode(), strict_parsing=True)
        names = {"active_only", "delta_days", "site_id", "result"}
        if headers["Content-Type"] != "application/x-www-form-urlencoded" or set(form) != names:
            raise RefusalError(422, "a search is a form")
        is_asked = {"True": lambda run: run.status != "done", "False": lambda _: True}
        days = int(form["delta_days"][0])
        self.searches.append(days)
        oldest = (
            datetime.now(UTC) - timedelta(days=days) if days else datetime.min.replace(tzinfo=UTC)
        )
        return [
            {"id": run.id, "tag": run.tag, "status": run.status}
            for run in list(self.runs.values())
            if is_asked[form["active_only"][0]](run) and run.submitted >= oldest
        ]


@pytest.fixture
def jaws() -> Iterator[JAWS]:
    simulator = JAWS()
    simulator.start()
    yield simulator
    simulator.stop()
