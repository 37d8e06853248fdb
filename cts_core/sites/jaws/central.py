"""JAWS central: runs, sites and cancels (docs/reference/contract-jaws.md §15).

Each method is one call with one deadline and no repeat. What is no proper answer is UnavailableError; a plain refusal is JAWSError.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

import httpx
from pydantic import SecretStr

from cts_core.clock import utc_now
from cts_core.concurrency import cancel_and_wait, run_sized
from cts_core.errors import UnavailableError
from cts_core.http_client import HttpClient, NoResponseError, read_json
from cts_core.sites.jaws.pace import Pace
from cts_core.sites.jaws.results import RunEnd, end_of

_OVER = ("too late to cancel", "already been cancelled")
"""In a refusal to cancel a run: there is nothing left to cancel."""
_CANCELLED = "cancelled"
_ENDED = (_CANCELLED, "done")
"""Statuses of runs with which there is nothing left to cancel."""
_ANY_TIME = 0
"""The days of a search that asks for runs of any time."""
_MAX_TEXT = 500
"""Characters of an answer that a message repeats."""
_FORM = "application/x-www-form-urlencoded"


class JAWSError(Exception):
    """JAWS refuses a call, or answers what has no meaning; the message says what."""


class NoSuchRunError(JAWSError):
    """JAWS itself says that it does not know a run (any more)."""


class NoSuchCallError(JAWSError):
    """Something says in JSON that it has no such call: JAWS, or what stands before it."""


@dataclass(frozen=True)
class Run:
    """A run, as JAWS tells it."""

    id: str
    status: str
    result: str | None
    output_dir: str | None
    """Where its results are or will be, as the DTNs see it; None as long as JAWS does not say."""

    @property
    def end(self) -> RunEnd | None:
        """How it ended; None while it goes on. Raises ResultError."""
        return end_of(self.status, self.result)


_Tagged = dict[str, list[dict[str, Any]]]
"""Runs, as JAWS tells them, by their tags."""


@dataclass
class _Search:
    """A search for runs that has not begun: whoever needs one shares it."""

    days: int
    task: asyncio.Task[_Tagged | None] = field(init=False)


class Central:
    """Calls JAWS. Every method raises UnavailableError and JAWSError."""

    def __init__(self, url: str, token: SecretStr, http: HttpClient, pace: Pace) -> None:
        """``url`` is JAWS's own, to which the version of the API is appended."""
        self._url = f"{url.rstrip('/')}/api/v2"
        self._token = token
        self._http = http
        self._pace = pace
        self._searching = asyncio.Lock()
        self._next_search: _Search | None = None
        self._searches: set[asyncio.Task[_Tagged | None]] = set()

    async def stop(self) -> None:
        """End searches."""
        await cancel_and_wait(*self._searches)

    async def user(self) -> str:
        """Return the id of the user whom the token belongs to."""
        uid = _object(await self._ask("GET", "user")).get("uid")
        if not isinstance(uid, str):
            raise JAWSError("JAWS does not say whose token this is")
        return uid

    async def run(self, run_id: str) -> Run | None:
        """Return a run; None if JAWS does not know it (any more)."""
        content = await self.describe(run_id)
        return _read_run(run_id, content) if content else None

    async def describe(self, run_id: str) -> dict[str, Any]:
        """Return all that JAWS tells of a run; empty if it does not know it (any more)."""
        try:
            return _object(await self._ask("GET", _path_of(run_id)))
        except NoSuchRunError:
            return {}

    async def was_cancelled(self, run_id: str) -> bool:
        """Return whether the log of a run has a cancel."""
        path = f"run/{quote(run_id, safe='')}/run_log?local_tz=UTC"
        try:
            content = await self._ask("GET", path)
        except NoSuchRunError:
            return False
        # An older JAWS answers with the rows alone.
        rows = content.get("data") if isinstance(content, dict) else content
        if not isinstance(rows, list):
            raise JAWSError(f"JAWS tells the log of its run {run_id} by something else than rows")
        return any(_CANCELLED in row[:2] for row in rows if isinstance(row, list))

    async def status(self, site: str) -> object:
        """Return what JAWS says of the parts of one of its sites."""
        return await self._ask("GET", f"status/{quote(site, safe='')}")

    async def cancel(self, run_id: str) -> None:
        """Cancel a run; one that is over, or that JAWS does not know, needs no cancel."""
        try:
            await self._ask("PUT", f"run/{quote(run_id, safe='')}/cancel")
        except NoSuchRunError:
            return
        except JAWSError as e:
            if not any(text in str(e).lower() for text in _OVER):
                raise

    async def find(self, tag: str, since: datetime) -> list[str] | None:
        """Return the ids of the runs with this tag, of which none is older than ``since``; None where JAWS has no search.

        JAWS answers with all runs of the user, of whole days: all who wait for the next search share it.
        """
        # Days that have begun, and one more, as clocks and time zones differ.
        days = max(0, (utc_now() - since).days) + 2
        search = self._next_search
        if search is None:
            search = self._next_search = _Search(days)
            search.task = asyncio.create_task(self._find_all(search), name="jaws-search")
            self._searches.add(search.task)
            search.task.add_done_callback(self._searches.discard)
        search.days = max(search.days, days)
        found = await asyncio.shield(search.task)
        return None if found is None else [_id_of(run) for run in found.get(tag, ())]

    async def _find_all(self, search: _Search) -> _Tagged | None:
        async with self._searching:
            # It may miss what is submitted from now on: whoever asks now needs a later one.
            self._next_search = None
            runs = await self._search(active_only=False, days=search.days)
        return None if runs is None else await run_sized(len(runs), _by_tag, runs)

    async def active_tags(self) -> set[str]:
        """Return the tags of all runs that may go on; none where JAWS has no search."""
        runs = await self._search(active_only=True, days=_ANY_TIME) or ()
        return {
            run["tag"]
            for run in runs
            # An older JAWS may tell of runs that have ended, too.
            if isinstance(run.get("tag"), str) and run.get("status") not in _ENDED
        }

    async def _search(self, *, active_only: bool, days: int) -> list[dict[str, Any]] | None:
        form = {
            "active_only": str(active_only),
            "delta_days": str(days),
            "site_id": "all",
            "result": "any",
        }
        body = urlencode(form).encode()
        try:
            content = await self._ask("POST", "search", body)
        except NoSuchCallError:
            # What stands before JAWS may have said so: JAWS itself has to answer before the same is believed.
            await self.user()
            try:
                content = await self._ask("POST", "search", body)
            except NoSuchCallError:
                return None
        if not isinstance(content, list):
            raise JAWSError("JAWS answers a search with something else than a list")
        return [run for run in content if isinstance(run, dict)]

    async def _ask(self, method: str, path: str, form: bytes | None = None) -> object:
        headers = {"Authorization": f"Bearer {self._token.get_secret_value()}"}
        if form is not None:
            headers["Content-Type"] = _FORM
        await self._pace.turn()
        try:
            status, content = await self._http.send(
                method, f"{self._url}/{path}", headers=headers, content=form
            )
        except NoResponseError as e:
            raise UnavailableError(f"JAWS does not answer: {e}") from None
        return await _read(status, content)


async def _read(status: int, content: bytes) -> object:
    try:
        answer = await read_json(content) if content else None
    except ValueError:
        raise UnavailableError(
            f"JAWS answers with something else than JSON, and status {status}"
        ) from None
    told = answer.get("detail") if isinstance(answer, dict) else None
    detail = _text_of(told)
    if status == httpx.codes.TOO_MANY_REQUESTS or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise UnavailableError(f"JAWS answers with status {status}: {detail}")
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        # It is ours to mend, and every job can wait until it is.
        raise UnavailableError(f"JAWS refuses the token that is set here (jaws.token): {detail}")
    if status == httpx.codes.NOT_FOUND:
        if isinstance(told, dict) and isinstance(told.get("error"), str):
            raise NoSuchRunError(f"JAWS does not know what it was asked for: {detail}")
        if isinstance(told, str):
            raise NoSuchCallError(f"JAWS has no such call: {detail}")
        raise UnavailableError("JAWS answers with status 404, which is not its own")
    if status >= httpx.codes.BAD_REQUEST:
        raise JAWSError(f"JAWS refuses a call with status {status}: {detail}")
    return answer


def _by_tag(runs: Sequence[dict[str, Any]]) -> _Tagged:
    tagged: _Tagged = {}
    for run in runs:
        if isinstance(tag := run.get("tag"), str):
            tagged.setdefault(tag, []).append(run)
    return tagged


def _text_of(detail: object) -> str:
    if isinstance(detail, dict):
        detail = detail.get("error")
    return detail[:_MAX_TEXT] if isinstance(detail, str) else "it does not say why"


def _object(content: object) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise JAWSError("JAWS answers with something else than an object")
    return content


def _read_run(run_id: str, content: Mapping[str, Any]) -> Run:
    status, result, folder = (content.get(name) for name in ("status", "result", "output_dir"))
    if not isinstance(status, str) or _id_of(content) != run_id:
        raise JAWSError(f"JAWS answers with something else than its run {run_id}")
    return Run(
        run_id,
        status,
        result if isinstance(result, str) else None,
        folder if isinstance(folder, str) and folder else None,
    )


def _path_of(run_id: str) -> str:
    query = urlencode({"verbose": "true", "local_tz": "UTC"})
    return f"run/{quote(run_id, safe='')}?{query}"


def _id_of(run: Mapping[str, Any]) -> str:
    run_id = run.get("id")
    if not isinstance(run_id, int | str) or isinstance(run_id, bool):
        raise JAWSError("JAWS answers with a run that has no id")
    return str(run_id)
