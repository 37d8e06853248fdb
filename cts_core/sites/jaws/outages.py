"""Whether NERSC and JAWS can be used now, why not, and until when, from what they say of themselves. Pure.

What they say is read leniently: an entry that cannot be understood is left out, since an outage that nobody can read must not become
another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cts_core.clock import in_utc

_USABLE = frozenset({"active", "degraded"})
"""Statuses of a system of NERSC with which it can be used."""
_HAPPENING = frozenset({"Active", "Extended"})
_PLANNED = "Planned"
_UP = "UP"
NOTICE = timedelta(days=7)
"""How long before it begins an outage is told."""
_MAX_TEXT = 300
"""Characters that are kept of a description."""


@dataclass(frozen=True)
class Outage:
    """An outage of a system, which goes on or is planned."""

    start: datetime
    end: datetime | None
    description: str
    is_planned: bool

    def covers(self, now: datetime) -> bool:
        """Return whether the outage goes on now, as far as its times say."""
        return self.start <= now and (self.end is None or now < self.end)


@dataclass(frozen=True)
class Availability:
    """Whether something can be used; if not, why in one sentence, and until when if that is known."""

    reason: str | None = None
    until: datetime | None = None

    @property
    def is_usable(self) -> bool:
        """Whether it can be used now."""
        return self.reason is None


def read_status(content: object) -> str | None:
    """Return the status of a system of NERSC; None if it says nothing that could be read."""
    status = content.get("status") if isinstance(content, dict) else None
    return status if isinstance(status, str) else None


def read_outages(content: object) -> list[Outage]:
    """Return the outages of a system that go on or are planned."""
    entries = content if isinstance(content, list) else []
    return [outage for entry in entries if (outage := _read_outage(entry)) is not None]


def _read_outage(entry: object) -> Outage | None:
    if not isinstance(entry, dict) or entry.get("status") not in (*_HAPPENING, _PLANNED):
        return None
    start = _read_time(entry.get("start_at"))
    if start is None:
        return None
    texts = (entry.get("description"), entry.get("notes"), entry.get("name"))
    description = next(
        (text.strip() for text in texts if isinstance(text, str) and text.strip()), ""
    )
    return Outage(
        start,
        _read_time(entry.get("end_at")),
        " ".join(description.split())[:_MAX_TEXT],
        is_planned=entry["status"] == _PLANNED,
    )


def _read_time(value: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
        # NERSC gives its times with an offset; without one, a time says too little to wait for. The end of time, which stands
        # for an end that nobody knows, is out of range in UTC.
        return None if time is None or time.tzinfo is None else in_utc(time)
    except ValueError:
        return None


def nersc(
    statuses: Mapping[str, str | None], outages: Mapping[str, Iterable[Outage]], now: datetime
) -> Availability:
    """Return whether NERSC can be used; both arguments are by system, and every system is needed.

    The status decides, and outages explain it: a system is active again before its outage's planned end, or is not yet.
    """
    down = {name: status for name, status in statuses.items() if status not in _USABLE}
    if not down:
        return Availability()
    causes = [outage for name in down for outage in outages.get(name, ()) if _explains(outage, now)]
    ends = [outage.end for outage in causes]
    known = [end for end in ends if end is not None and end > now]
    until = max(known) if known and len(known) == len(ends) else None
    what = next((outage.description for outage in causes if outage.description), None)
    if what is None:
        what = ", ".join(
            f"{name} is {status or 'not known'}" for name, status in sorted(down.items())
        )
    return Availability(f"NERSC is down{_until(until)}: {what}", until)


def _explains(outage: Outage, now: datetime) -> bool:
    return outage.covers(now) if outage.is_planned else outage.start <= now


def _until(time: datetime | None) -> str:
    return f" until {time:%Y-%m-%d %H:%M} UTC" if time is not None else ""


def jaws(site: str, content: object) -> Availability:
    """Return whether a site of JAWS can be used, from JAWS's own status of its parts."""
    if not isinstance(content, dict) or not content:
        return Availability(f"JAWS does not say how its site {site} is")
    down = sorted(f"{part} is {status}" for part, status in content.items() if status != _UP)
    if not down:
        return Availability()
    return Availability(f"JAWS cannot run jobs at its site {site}: {', '.join(down)}"[:_MAX_TEXT])


def both(*parts: Availability) -> Availability:
    """Return whether all of these can be used; if not, all reasons, and until when if that is known of all that cannot."""
    down = [part for part in parts if not part.is_usable]
    if not down:
        return Availability()
    ends = [part.until for part in down if part.until is not None]
    until = max(ends) if len(ends) == len(down) else None
    return Availability("; ".join(part.reason or "" for part in down), until)


def notes(outages: Mapping[str, Iterable[Outage]], now: datetime) -> list[str]:
    """Return a sentence for each outage that is planned soon, the first first; several systems often share one."""
    soon = sorted(
        {
            (outage.start, _describe(outage))
            for planned in outages.values()
            for outage in planned
            if outage.is_planned and now < outage.start <= now + NOTICE
        }
    )
    return [sentence for _, sentence in soon]


def _describe(outage: Outage) -> str:
    what = f": {outage.description}" if outage.description else ""
    return f"NERSC will be down from {outage.start:%Y-%m-%d %H:%M}{_until(outage.end)}{what}"


def waiting_sentence(availability: Availability) -> str | None:
    """Return what the owner of a waiting job reads; None where nothing is down."""
    if availability.reason is None:
        return None
    return f"{availability.reason}. Your job waits and goes on by itself"
