"""Looks at the folders of many jobs at NERSC by few commands, at most once in some seconds."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

from cts_core.concurrency import cancel_and_wait, run_in_pool
from cts_core.errors import CTSError, UnavailableError
from cts_core.sites.jaws.layout import (
    DEPLOYED_RESULTS,
    LOOKED_AT,
    Attempt,
    Kind,
    Layout,
    Step,
    attempts_in,
)
from cts_core.sites.jaws.results import StepEnd, read_end
from cts_core.sites.jaws.sfapi import CommandError, SFAPIError
from cts_core.sites.jaws.steps import SeenAttempt
from cts_core.worker.backoff import exponential_delay

log = logging.getLogger(__name__)

LOOK_SECONDS = 15.0
"""Between two looks."""
NUDGED_SECONDS = 2.0
"""Between two looks of which somebody has asked for the second."""
MAX_FOLDERS = 500
"""Folders that one look is at; the others wait for the next."""
MAX_ASKED = 100
"""Folders that one command of a look is at: nobody knows how long a command may be at NERSC."""
MAX_TOLD = 64 << 10
"""Characters, or few more, that one command of a look writes: nobody knows how many NERSC keeps."""
REST_SECONDS, MAX_REST_SECONDS = 10.0, 600.0
"""Between two attempts at a step: before the second, and the longest; twice as long each time."""
_ENDS = rf".*\.{Kind.END.value}"
_LONG_AGO = timedelta(days=36500)


@dataclass(frozen=True)
class SeenFolder:
    """What a folder of a job at NERSC tells."""

    attempts: Mapping[Step, list[SeenAttempt]] = field(default_factory=dict)
    """By step, in the order of their numbers, which count from 1."""
    deployed: Mapping[Step, StepEnd] = field(default_factory=dict)
    """How steps ended that the deployed service began."""
    untold: list[str] = field(default_factory=list)
    """The names of ends that are too long to be told with others."""
    time: float = 0.0
    """Of the look, by the monotonic clock."""


def read_folder(files: Mapping[str, Any] | None, told: Mapping[str, str], now: float) -> SeenFolder:
    """Return what the helper tells of a folder; None stands for one that is not there.

    ``told`` has what is in the ends that the helper found too long, by name.
    """
    files = files or {}
    inline = {name: _text(entry) for name, entry in files.items()}
    texts = {name: text for name, text in ({**inline, **told}).items() if text is not None}
    found = attempts_in(files)
    steps: dict[Step, list[SeenAttempt]] = {}
    for attempt in sorted(found):
        seen = steps.setdefault(attempt.step, [])
        # The claim of an attempt may have been removed with what was old.
        seen += [SeenAttempt(age=_LONG_AGO)] * (attempt.number - 1 - len(seen))
        end = read_end(texts.get(attempt.file(Kind.END), ""))
        claim = files.get(attempt.file(Kind.CLAIM))
        seen.append(SeenAttempt(end, _age(claim)))
    deployed = {
        step: end
        for step, name in DEPLOYED_RESULTS.items()
        if (end := read_end(texts.get(name, ""))) is not None
    }
    ends = {a.file(Kind.END) for a, kinds in found.items() if Kind.END in kinds}
    untold = sorted((ends | set(DEPLOYED_RESULTS.values()) & set(files)) - set(texts))
    return SeenFolder(steps, deployed, untold, now)


def _read_folders(
    answer: Mapping[str, Any], told: Mapping[str, Mapping[str, str]], now: float
) -> dict[str, SeenFolder]:
    return {
        folder: read_folder(answer[folder], ends, now)
        for folder, ends in told.items()
        if folder in answer
    }


def _text(entry: object) -> str | None:
    text = entry.get("text") if isinstance(entry, dict) else None
    return text if isinstance(text, str) else None


def _age(claim: object) -> timedelta:
    age = claim.get("age") if isinstance(claim, dict) else None
    return timedelta(seconds=age) if isinstance(age, int | float) else _LONG_AGO


class Helper(Protocol):
    """The helper at NERSC, and the files there. Methods raise CommandError, SFAPIError and UnavailableError."""

    @property
    def layout(self) -> Layout:
        """The paths at NERSC."""

    async def ask_helper(
        self, arguments: Sequence[str], question: Mapping[str, Any] | None = None
    ) -> Any:  # noqa: ANN401 - JSON
        """Return what the helper answers."""

    async def read(self, path: str) -> bytes | None:
        """Return the content of a file; None if there is none."""


class Lookout:
    """Looks at the folders that somebody wants looked at; both sites share one, so that there are few commands for all."""

    def __init__(self, helper: Helper, *, seconds: float = LOOK_SECONDS) -> None:
        self._helper = helper
        self._seconds = seconds
        self._wanted: dict[str, Callable[[str], None]] = {}
        """What to call after a look, by folder."""
        self._seen: dict[str, SeenFolder] = {}
        self._tried: dict[str, float] = {}
        """When each folder was looked at last, also if it could not be read, by the monotonic clock."""
        self._told: dict[str, dict[str, str]] = {}
        """What is in the ends that were read one by one, by folder and name."""
        self._due = 0.0
        self._last = float("-inf")
        self._task: asyncio.Task[None] | None = None

    def find(self, folder: str) -> SeenFolder | None:
        """Return what the last look at a folder showed; None if there was none yet."""
        return self._seen.get(folder)

    def waited(self, folder: str) -> float:
        """Return for how many seconds the look under way has gone on, if this folder waits for a look; else 0."""
        is_looking = self._task is not None and not self._task.done()
        return time.monotonic() - self._last if is_looking and folder in self._wanted else 0.0

    def want(self, folder: str, on_look: Callable[[str], None]) -> None:
        """Have a folder looked at when a look is due; ``on_look`` is called with it once it was."""
        self._wanted[folder] = on_look
        if (self._task is None or self._task.done()) and time.monotonic() >= self._due:
            self._due = time.monotonic() + self._seconds
            self._task = asyncio.create_task(self._look(), name="jaws-look")

    def forget(self, folder: str) -> None:
        """Forget a folder, which nobody wants looked at any more."""
        self._wanted.pop(folder, None)
        self._seen.pop(folder, None)
        self._tried.pop(folder, None)
        self._told.pop(folder, None)

    def hurry(self) -> None:
        """Have the next look come soon: somebody says that something has happened."""
        self._due = min(self._due, max(time.monotonic(), self._last + NUDGED_SECONDS))

    async def stop(self) -> None:
        """End a look."""
        await cancel_and_wait(self._task)

    async def look_at(self, folder: str) -> SeenFolder:
        """Look at one folder at once. Raises CommandError, SFAPIError, UnavailableError."""
        seen, _ = await self._ask([folder])
        if folder not in seen:
            raise CommandError(f"{folder} cannot be read now")
        return seen[folder]

    async def has(self, folder: str, name: str) -> bool | None:
        """Return whether a folder, of a run, has a file now; None if the folder is not there, or cannot be read.

        Raises CommandError, SFAPIError, UnavailableError.
        """
        answer, _ = await self._tell([folder], re.escape(name), "")
        files = answer.get(folder)
        return name in files if isinstance(files, dict) else None

    async def _look(self) -> None:
        self._last = time.monotonic()
        # Those that were not looked at for longest come first: what cannot be read keeps no other from its turn.
        folders = sorted(self._wanted, key=lambda folder: self._tried.get(folder, 0.0))
        folders = folders[:MAX_FOLDERS]
        self._tried |= dict.fromkeys(folders, self._last)
        try:
            while folders:
                asked = folders[:MAX_ASKED]
                seen, left = await self._ask(asked)
                self._note(asked[: len(asked) - left], seen)
                del folders[: len(asked) - left]
        except (CTSError, SFAPIError, CommandError) as e:
            log.warning("The folders of %d jobs at NERSC were not looked at: %s", len(folders), e)
        except Exception:
            log.exception("The folders of jobs at NERSC were not looked at")

    def _note(self, folders: Sequence[str], seen: Mapping[str, SeenFolder]) -> None:
        for folder in folders:
            if folder not in seen:
                # It stays wanted.
                log.warning("The folder %s at NERSC cannot be read now", folder)
            elif (on_look := self._wanted.pop(folder, None)) is not None:
                self._seen[folder] = seen[folder]
                on_look(folder)

    async def _ask(self, folders: list[str]) -> tuple[dict[str, SeenFolder], int]:
        """Return what these folders tell, but for those that cannot be read now, and how many of the last of them are left for another command."""
        answer, left = await self._tell(folders, LOOKED_AT, _ENDS)
        now = time.monotonic()
        told = {folder: dict(self._told.get(folder, {})) for folder in folders}
        seen = await run_in_pool(_read_folders, answer, told, now)
        for folder, found in list(seen.items()):
            try:
                for name in found.untold:
                    await self._read(folder, name)
            except (UnavailableError, SFAPIError) as e:
                log.warning("An end in %s at NERSC was not read: %s", folder, e)
                del seen[folder]
                continue
            if found.untold:
                files, ends = answer[folder], self._told.get(folder, {})
                seen[folder] = await run_in_pool(read_folder, files, ends, now)
        return seen, left

    async def _tell(self, folders: list[str], names: str, told: str) -> tuple[dict[str, Any], int]:
        """Return what the helper tells of the files of these names, and what is in those of the names ``told``; and of how many folders it tells nothing yet."""
        plans = self._helper.layout.plans()
        question = {
            "folders": folders,
            "names": names,
            "told": told,
            "plans": plans,
            "room": MAX_TOLD,
        }
        answer = await self._helper.ask_helper(["look"], question)
        match answer:
            case {"folders": dict(found), "left": list(left)} if len(left) < len(folders):
                return found, len(left)
        raise CommandError("the helper tells of no folders")

    async def _read(self, folder: str, name: str) -> None:
        content = await self._helper.read(f"{folder}/{name}")
        text = (content or b"").decode(errors="replace")
        # The helper of the deployed service may have written half of it: that is read again at the next look.
        if await run_in_pool(read_end, text) is not None:
            self._told.setdefault(folder, {})[name] = text


def last_number(seen: SeenFolder, step: Step) -> int:
    """Return the number of the last attempt at a step; 0 if there is none."""
    return len(seen.attempts.get(step, ()))


def done_attempt(seen: SeenFolder, step: Step) -> Attempt | None:
    """Return the last attempt at a step that succeeded."""
    attempts = seen.attempts.get(step, ())
    for number in range(len(attempts), 0, -1):
        end = attempts[number - 1].end
        if end is not None and end.is_done:
            return Attempt(step, number)
    return None


def last_done(seen: SeenFolder, step: Step) -> int:
    """Return the number of the last attempt at a step that succeeded; 0 if there is none."""
    attempts = enumerate(seen.attempts.get(step, ()), 1)
    return max((n for n, seen in attempts if seen.end and seen.end.is_done), default=0)


def failed_attempt(seen: SeenFolder) -> tuple[Attempt, str] | None:
    """Return the last attempt that failed at the step that a job is at, and why; None if that step has succeeded, or not failed yet."""
    step = next((step for step in reversed(Step) if seen.attempts.get(step)), None)
    if step is None or done_attempt(seen, step) is not None:
        return None
    ended = [
        (Attempt(step, number), attempt.end.reason or "it does not say why")
        for number, attempt in enumerate(seen.attempts[step], 1)
        if attempt.end is not None
    ]
    return ended[-1] if ended else None


def is_rested(seen: SeenFolder, attempt: Attempt) -> bool:
    """Return whether the attempt before this one is long enough ago."""
    before = seen.attempts.get(attempt.step, ())[: attempt.number - 1]
    if not before:
        return True
    age = before[-1].age.total_seconds() + time.monotonic() - seen.time
    return age >= exponential_delay(len(before) - 1, first=REST_SECONDS, longest=MAX_REST_SECONDS)
