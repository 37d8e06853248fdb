"""Whether NERSC and JAWS can be used, and what people read if not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cts_core.sites.jaws import outages
from cts_core.sites.jaws.outages import Availability, read_outages, read_status

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
UP = {"perlmutter": "active", "dtns": "active"}


def _entry(start: float, end: float | None, **changes: Any) -> dict[str, Any]:
    """Return an outage as NERSC tells it; times are in hours from now, at California's offset."""
    west = datetime.fromisoformat("2026-11-29T04:00:00-08:00")
    return {
        "name": "perlmutter",
        "start_at": (west + timedelta(hours=start)).isoformat(),
        "end_at": None if end is None else (west + timedelta(hours=end)).isoformat(),
        "description": "Scheduled maintenance",
        "notes": "",
        "status": "Active",
        **changes,
    }


def _nersc(status: str, *entries: dict[str, Any]) -> Availability:
    return outages.nersc(
        {**UP, "perlmutter": status}, {"perlmutter": read_outages([*entries])}, NOW
    )


@pytest.mark.parametrize("status", ["active", "degraded"])
def test_status_decides_and_not_the_outage(status: str):
    assert _nersc(status, _entry(-1, 6)) == Availability()


@pytest.mark.parametrize("status", ["unavailable", "other", "something new"])
def test_outage_says_why_and_until_when(status: str):
    found = _nersc(status, _entry(-1, 6))
    assert found == Availability(
        "NERSC is down until 2026-11-29 18:00 UTC: Scheduled maintenance", NOW + timedelta(hours=6)
    )
    assert outages.waiting_sentence(found) == (
        "NERSC is down until 2026-11-29 18:00 UTC: Scheduled maintenance. Your job waits and goes on by itself"
    )


def test_outage_without_an_end_has_none():
    assert _nersc("unavailable", _entry(-1, None)) == Availability(
        "NERSC is down: Scheduled maintenance"
    )
    assert _nersc("unavailable", _entry(-1, None), _entry(-1, 6)).until is None


@pytest.mark.parametrize("end", ["9999-12-31T23:59:59-08:00", "9999-12-31T23:59:59.999999-00:01"])
def test_end_of_time_is_an_end_that_nobody_knows(end: str):
    endless = {**_entry(-1, None), "end_at": end}
    assert _nersc("unavailable", endless) == Availability("NERSC is down: Scheduled maintenance")
    assert read_outages([{**endless, "start_at": "0001-01-01T00:00:00+01:00"}]) == []


def test_outage_that_goes_on_beyond_its_end_promises_none():
    late = _entry(-8, -1, status="Extended")
    assert _nersc("unavailable", late) == Availability("NERSC is down: Scheduled maintenance")


def test_planned_outage_that_has_begun_explains_it():
    assert _nersc("unavailable", _entry(-1, 6, status="Planned")).until == NOW + timedelta(hours=6)
    other = _nersc("unavailable", _entry(1, 6, status="Planned"))
    assert other == Availability("NERSC is down: perlmutter is unavailable")


@pytest.mark.parametrize("status", ["Completed", "Cancelled", "New", None])
def test_outage_that_is_over_explains_nothing(status: str | None):
    assert _nersc("unavailable", _entry(-1, 6, status=status)).until is None


def test_system_that_says_nothing_is_down():
    assert outages.nersc({**UP, "dtns": None}, {}, NOW) == Availability(
        "NERSC is down: dtns is not known"
    )


def test_planned_outages_are_told_a_week_before():
    planned = [
        _entry(48, 60, status="Planned"),
        _entry(24 * 8, 24 * 9, status="Planned"),
        _entry(-1, 6, status="Planned"),
    ]
    both = {"perlmutter": read_outages(planned), "dtns": read_outages(planned)}
    assert outages.notes(both, NOW) == [
        "NERSC will be down from 2026-12-01 12:00 until 2026-12-02 00:00 UTC: Scheduled maintenance"
    ]


def test_sites_of_jaws():
    assert outages.jaws("kbase", {"a": "UP", "kbase-Site": "UP"}).is_usable
    down = outages.jaws("jgi", {"jgi-Cromwell": "DOWN", "jgi-Site": "UP"})
    assert down.reason == "JAWS cannot run jobs at its site jgi: jgi-Cromwell is DOWN"
    unknown = outages.jaws("x", {"x-Site": "UNKNOWN SITE"})
    assert unknown.reason == "JAWS cannot run jobs at its site x: x-Site is UNKNOWN SITE"
    assert not outages.jaws("x", {}).is_usable


def test_both_are_needed():
    hours = [NOW + timedelta(hours=n) for n in (1, 2)]
    first, second = (Availability(f"{h:%H} is down", h) for h in hours)
    assert outages.both(Availability(), Availability()) == Availability()
    assert outages.both(first, Availability(), second) == Availability(
        "13 is down; 14 is down", hours[1]
    )
    assert outages.both(first, Availability("x is down")).until is None
    assert outages.waiting_sentence(Availability()) is None


_ANYTHING = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.just("Active"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["status", "start_at", "end_at", "description"]), inner, max_size=4
        )
    ),
)


@given(_ANYTHING)
def test_what_cannot_be_read_is_left_out(content: object):
    found = read_outages(content)
    assert all(outage.start.tzinfo is UTC for outage in found)
    outages.nersc({"perlmutter": read_status(content)}, {"perlmutter": found}, NOW)
    outages.jaws("kbase", content)
