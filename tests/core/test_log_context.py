"""The log as JSON: each line says what it belongs to."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest

from cts_core import log_context


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    text = io.StringIO()
    parent = logging.getLogger("tests.logs")
    handler = logging.StreamHandler(text)
    parent.addHandler(handler)
    parent.propagate = False
    log_context.write_json(logging.getLogger("tests.logs.child"), "blue")
    yield text
    parent.removeHandler(handler)


def read(text: io.StringIO) -> list[dict[str, str]]:
    return [json.loads(line) for line in text.getvalue().splitlines()]


def test_a_line_is_one_object(lines: io.StringIO):
    log = logging.getLogger("tests.logs.child")
    log.warning("two\nlines, %s", "é")
    with log_context.about(job_id="j"), log_context.about(trans_id="t"):
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


async def test_tasks_do_not_mix(lines: io.StringIO):
    log = logging.getLogger("tests.logs.child")

    async def work(request: str) -> None:
        log_context.set_about(request_id=request)
        await asyncio.sleep(0)
        log.warning(request)

    await asyncio.gather(*(work(str(n)) for n in range(5)))
    log.warning("none")
    *told, last = read(lines)
    assert all(line["request_id"] == line["message"] for line in told)
    assert "request_id" not in last
