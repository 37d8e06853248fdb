"""How states, sizes, durations and times are said to people, and read from them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from cts_core.states import TERMINAL, JobState

STATE_WORDS: Mapping[str, str] = {
    "created": "Accepted",
    "download_submitted": "Waiting for its turn",
    "job_submitting": "Inputs verified, starting",
    "job_submitted": "Running",
    "upload_submitting": "Checksumming outputs",
    "upload_submitted": "Storing outputs",
    "complete": "Done",
    "canceling": "Being cancelled",
    "canceled": "Cancelled",
    "error_processing_submitting": "Failed, keeping the logs",
    "error_processing_submitted": "Failed, keeping the logs",
    "error": "Failed",
}
"""Every state in words; ``static/card.js`` says the same. Services may know states that we do not."""

WAITING = frozenset({JobState.CREATED, JobState.DOWNLOAD_SUBMITTED})
"""States in which a container has not begun."""

_STATE_GROUPS: Mapping[str, frozenset[str]] = {
    "done": frozenset({JobState.COMPLETE}),
    "failed": frozenset({JobState.ERROR}),
    "cancelled": frozenset({JobState.CANCELED}),
    "ended": frozenset(TERMINAL),
    "live": frozenset(JobState) - TERMINAL,
}
STATE_NAMES = tuple(sorted({*_STATE_GROUPS, *(state.value for state in JobState)}))
"""What ``--state`` understands beside the names of a newer service."""

_DURATION = re.compile(
    r"(?:(?P<days>\d+(?:\.\d+)?)d)?(?:(?P<hours>\d+(?:\.\d+)?)h)?"
    r"(?:(?P<minutes>\d+(?:\.\d+)?)m(?:in)?)?(?:(?P<seconds>\d+(?:\.\d+)?)s)?"
)
_ISO_DURATION = re.compile(
    r"P(?:(?P<days>\d+(?:\.\d+)?)D)?"
    r"(?:T(?:(?P<hours>\d+(?:\.\d+)?)H)?(?:(?P<minutes>\d+(?:\.\d+)?)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?"
)
_THOUSAND = 1000


def format_state(state: str) -> str:
    """A state in words; a state that we do not know is said by its name."""
    return STATE_WORDS.get(state, state.replace("_", " "))


def format_job_state(state: str, counts: Mapping[str, int]) -> str:
    """A job's state in words, by what its containers do: it waits only while all of them do.

    The service's own state is that of the slowest container.
    """
    if state in WAITING and any(count and other not in WAITING for other, count in counts.items()):
        return STATE_WORDS[JobState.JOB_SUBMITTED]
    return format_state(state)


def has_ended(state: str) -> bool:
    """Whether a job in this state will not change any more."""
    return state in TERMINAL


def states_by_name(name: str) -> frozenset[str]:
    """The states that a person means by ``done``, ``live`` or a state's own name."""
    return _STATE_GROUPS.get(name, frozenset({name}))


def format_size(count: float) -> str:
    """Bytes in decimal units, as ``--memory`` takes them."""
    units = iter(("B", "kB", "MB", "GB", "TB", "PB"))
    unit = next(units)
    while round(count, 1) >= _THOUSAND:
        count /= _THOUSAND
        unit = next(units)
    return f"{round(count, 1):g} {unit}"


def format_duration(duration: timedelta) -> str:
    """A length of time in its two largest units."""
    seconds = max(duration.total_seconds(), 0)
    if seconds < 10:  # noqa: PLR2004 - below ten seconds a tenth is worth saying
        return f"{seconds:.1f} s"
    seconds = round(seconds)
    days, rest = divmod(seconds, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next(i for i, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count)


def format_seconds(seconds: float) -> str:
    """The same for a number of seconds."""
    return format_duration(timedelta(seconds=seconds))


def format_time(time: datetime) -> str:
    """A time in the reader's own time zone, to the second."""
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def parse_duration(text: str) -> timedelta:
    """``90`` (seconds), ``30m``, ``1h30m``, ``7d`` or ISO-8601 such as ``PT1H``. Raises ValueError."""
    text = text.strip()
    if re.fullmatch(r"\d+(?:\.\d+)?", text):
        text = f"{text}s"
    match = _DURATION.fullmatch(text.lower()) or _ISO_DURATION.fullmatch(text.upper())
    given = (
        {unit: float(count) for unit, count in match.groupdict().items() if count} if match else {}
    )
    if not given:
        raise ValueError(
            f"{text!r} is no duration: write 90s, 30m, 1h30m, 2d, or ISO-8601 such as PT1H"
        )
    try:
        return timedelta(**given)
    except OverflowError:
        raise ValueError(f"{text!r} is longer than any job can run") from None


def format_iso_duration(duration: timedelta) -> str:
    """ISO-8601 of hours, minutes and seconds, as the service writes it."""
    seconds = duration.total_seconds()
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    parts = [(hours, "H"), (minutes, "M"), (rest, "S")]
    return "PT" + ("".join(f"{count:g}{unit}" for count, unit in parts if count) or "0S")


def format_brief_duration(duration: timedelta) -> str:
    """``1h30m`` or ``90.5s``: exactly what :func:`parse_duration` reads as this."""
    if duration % timedelta(seconds=1) or not duration:
        return f"{duration.total_seconds():.6f}".rstrip("0").rstrip(".") + "s"
    hours, rest = divmod(round(duration.total_seconds()), 3600)
    days, hours = divmod(hours, 24)
    minutes, seconds = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (seconds, "s")]
    return "".join(f"{count}{unit}" for count, unit in parts if count)


def short_id(job_id: str) -> str:
    """Enough of an id to tell jobs apart at a glance."""
    return job_id[:8]


def join_names(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def plural(count: int, noun: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
