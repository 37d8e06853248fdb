"""Formats states, durations and times for people. Sizes and seconds: :mod:`cts_core.worker.units`."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from importlib.resources import files

from cts_core.states import TERMINAL, JobState
from cts_core.worker.units import format_seconds

_STATES: Mapping[str, Mapping[str, str | bool]] = json.loads(
    (files("cts_jupyter") / "states.json").read_bytes()
)
"""The one table of states, which the JupyterLab extension reads, too."""
STATE_WORDS: Mapping[str, str] = {state: str(entry["words"]) for state, entry in _STATES.items()}
"""The words that each state is shown by. Services may have states that are not listed."""

SHORT_ID_LENGTH = 8
"""The least of a job's id that names it, and as much as is shown."""
WAITING = frozenset(
    JobState(state) for state, entry in _STATES.items() if entry["mood"] == "waiting"
)
"""States in which a container has not begun."""
FAILING = frozenset(
    JobState(state) for state, entry in _STATES.items() if entry["mood"] == "failed"
)
"""States of a container that has failed, its logs stored or not yet."""
CANCELLING = frozenset(
    JobState(state) for state, entry in _STATES.items() if entry["mood"] == "cancelled"
)
"""States of a container that is cancelled, or about to be."""

STATE_GROUPS: Mapping[str, frozenset[str]] = {
    "done": frozenset({JobState.COMPLETE}),
    "failed": frozenset({JobState.ERROR}),
    "cancelled": frozenset({JobState.CANCELED}),
    "ended": frozenset(TERMINAL),
    "live": frozenset(JobState) - TERMINAL,
}
"""The states that each of the words for several stands for."""
STATE_NAMES = tuple(sorted({*STATE_GROUPS, *(state.value for state in JobState)}))
"""The values of ``--state`` that this version lists; it also takes the states of a newer service."""

MAX_NAMED = 5
"""The number of things that a message names."""
_MAX_NEAREST = 2
_COLORS = re.compile(r"\x1b\[[0-9;:]*m")
_UNPRINTABLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Characters that command a terminal or reorder what it shows, and halves of characters; not line feed and tab."""


def printable(text: str) -> str:
    """Return text from outside as a terminal may show it: it can neither command the terminal nor hide what it says.

    Colours are left out, and a carriage return begins a new line.
    """
    text = _COLORS.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return _UNPRINTABLE.sub(_escape, text)


def printable_line(text: str) -> str:
    """Return text from outside as one line that a terminal may show, such as a cell of a table."""
    return _UNPRINTABLE.sub(_escape, text).replace("\n", "\\n").replace("\t", "\\t")


def printable_json(text: str) -> str:
    """Return JSON as the same JSON that a terminal may show."""
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _escape(match: re.Match[str]) -> str:
    return ascii(match[0])[1:-1]


def format_state(state: str) -> str:
    """Return the words for a state; for one that is not in the table, its name."""
    return STATE_WORDS.get(state, state.replace("_", " "))


def shown_state(state: str, counts: Mapping[str, int]) -> str:
    """Return the state that a person is told of a job, given how many of its containers are in which state.

    The service's own state is that of the slowest container; here a job waits only while all of its containers do.
    """
    has_begun = any(count and other not in WAITING for other, count in counts.items())
    return JobState.JOB_SUBMITTED.value if state in WAITING and has_begun else state


def format_job_state(state: str, counts: Mapping[str, int]) -> str:
    """Return the words for the state that a person is told of a job."""
    return format_state(shown_state(state, counts))


def has_ended(state: str) -> bool:
    """Return whether the state is final."""
    return state in TERMINAL


def states_by_name(name: str) -> frozenset[str]:
    """Return the states of a group such as ``done`` or ``live``, or else the one state of this name.

    Raises ValueError for a name that is similar to a known one. Any other may be that of a newer service's state.
    """
    if name not in STATE_NAMES and nearest(name, STATE_NAMES):
        raise ValueError(unknown("state", name, STATE_NAMES))
    return STATE_GROUPS.get(name, frozenset({name}))


def states_by_names(names: Iterable[str]) -> frozenset[str] | None:
    """Return the states of several names, see :func:`states_by_name`; None without any."""
    return frozenset[str]().union(*map(states_by_name, names)) or None


def format_duration(duration: timedelta) -> str:
    """Return a duration in its two largest units: ``0.0 s``, ``1 min 1 s``, ``1 d 1 h``."""
    return format_seconds(duration.total_seconds())


def format_time(time: datetime) -> str:
    """Return a time in the local time zone, to the second."""
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def format_zoned_time(time: datetime) -> str:
    """Return a time with its zone, for text that others may read elsewhere: ``2026-01-02 03:04:05 UTC``."""
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def format_iso_duration(duration: timedelta) -> str:
    """Return a duration as ISO 8601 in hours, minutes and seconds, as the service writes it."""
    seconds = duration.total_seconds()
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    parts = [(hours, "H"), (minutes, "M"), (rest, "S")]
    return "PT" + ("".join(f"{count:g}{unit}" for count, unit in parts if count) or "0S")


def format_brief_duration(duration: timedelta) -> str:
    """Return a duration as text that :func:`cts_jupyter.times.parse_duration` parses to the same: ``1h30m``, ``90.5s``."""
    if duration % timedelta(seconds=1) or not duration:
        return f"{duration.total_seconds():.6f}".rstrip("0").rstrip(".") + "s"
    hours, rest = divmod(round(duration.total_seconds()), 3600)
    days, hours = divmod(hours, 24)
    minutes, seconds = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (seconds, "s")]
    return "".join(f"{count}{unit}" for count, unit in parts if count)


def natural_key(name: str) -> list[tuple[int, str]]:
    """Return a key by which names are in the order that people expect: ``stats_2`` before ``stats_10``."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if n % 2 else (-1, part) for n, part in enumerate(parts)]


def short_id(job_id: str) -> str:
    """Return the beginning of a job's id, by which people tell jobs apart."""
    return job_id[:SHORT_ID_LENGTH]


def join_names(names: Sequence[str]) -> str:
    """Join names as text: ``a``, ``a and b``, ``a, b and c``."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def name_some(things: Sequence[object], *, total: int | None = None) -> str:
    """Join the first few of many names, and the number of the others: ``a, b, c, d, e and 7 more``.

    ``total`` is the number of all, where ``things`` are only some of them.
    """
    hidden = (len(things) if total is None else total) - len(things[:MAX_NAMED])
    more = f" and {hidden:,} more" if hidden else ""
    return ", ".join(str(thing) for thing in things[:MAX_NAMED]) + more


def nearest(word: str, names: Iterable[str]) -> list[str]:
    """Return the names that a word may have been meant as, the most similar first."""
    by_lower = {name.lower(): name for name in names}
    found = difflib.get_close_matches(word.lower(), by_lower, n=_MAX_NEAREST)
    return [by_lower[name] for name in found]


def unknown(what: str, word: str, names: Sequence[str]) -> str:
    """Return a sentence about a word that is none of these names: what it may have been meant as, or else all of them."""
    found = nearest(word, names)
    if found:
        return f"There is no {what} {word!r}: did you mean {' or '.join(found)}?"
    return f"There is no {what} {word!r}: there are {', '.join(names)}"


def first_line(text: str) -> str:
    """Return the first line of a text, and the number of the others."""
    line, *others = text.splitlines() or [""]
    return f"{line} (and {plural(len(others), 'line')} more)" if others else line


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: ``1 file``, ``2 files``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
