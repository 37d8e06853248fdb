"""Structured logging: lines are JSON and carry their context's ids."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest

from cts_core.log_context import bind_log_context, format_as_json, handled_level, log_context


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    text = io.StringIO()
    parent = logging.getLogger("tests.logs")
    handler = logging.StreamHandler(text)
    parent.addHandler(handler)
    parent.propagate = False
    format_as_json(logging.getLogger("tests.logs.child"), "blue")
    yield text
    parent.removeHandler(handler)


def read(text: io.StringIO) -> list[dict[str, str]]:
    return [json.loads(line) for line in text.getvalue().splitlines()]


def test_each_record_is_one_json_object(lines: io.StringIO):
    log = logging.getLogger("tests.logs.child")
    log.warning("two\nlines, %s", "é")
    with log_context(job_id="j"), log_context(trans_id="t"):
        log.error("inside")
    log.error("outside")
    try:
        int("broken")
    except ValueError:
        log.exception("a trace")
    first, inside, outside, trace = read(lines)
    assert first["message"] == "two\nlines, é"
    assert (first["level"], first["logger"], first["group"]) == (
        "warning",
        "tests.logs.child",
        "blue",
    )
    assert first["time"].endswith("+00:00")
    assert (inside["job_id"], inside["trans_id"]) == ("j", "t")
    assert "job_id" not in outside
    assert "ValueError: invalid literal" in trace["trace"]


async def test_ids_stay_in_their_own_task(lines: io.StringIO):
    log = logging.getLogger("tests.logs.child")

    async def work(request: str) -> None:
        bind_log_context(request_id=request)
        await asyncio.sleep(0)
        log.warning(request)

    await asyncio.gather(*(work(str(n)) for n in range(5)))
    log.warning("none")
    *bound, last = read(lines)
    assert all(line["request_id"] == line["message"] for line in bound)
    assert "request_id" not in last


def test_level_is_the_lowest_that_a_handler_takes():
    parent = logging.Logger("parent", logging.DEBUG)  # noqa: LOG001 - pytest adds handlers to those that it finds
    child = logging.Logger("child")  # noqa: LOG001 - the same
    child.parent = parent
    assert handled_level(child) == logging.DEBUG
    parent.addHandler(logging.NullHandler(logging.WARNING))
    assert handled_level(child) == logging.WARNING
    child.addHandler(logging.NullHandler(logging.INFO))
    assert handled_level(child) == logging.INFO
    parent.setLevel(logging.ERROR)
    assert handled_level(child) == logging.ERROR
