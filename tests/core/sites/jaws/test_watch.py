"""A view of what others tell: asked for when somebody looks, and it is old."""

from __future__ import annotations

import asyncio

import pytest

from cts_core.sites.jaws.watch import Watch


class Source:
    def __init__(self) -> None:
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def ask(self) -> int:
        self.asked += 1
        await self.gate.wait()
        return self.asked


async def test_view_is_asked_for_once_while_it_is_new():
    source = Source()
    watch = Watch(source.ask, 1000, 0)
    assert watch.peek() == 0
    assert await watch.current(wait=10) == 1
    assert await watch.current(wait=10) == 1
    assert (watch.peek(), source.asked) == (1, 1)
    await watch.stop()


async def test_old_view_is_asked_for_anew_by_whoever_looks():
    source = Source()
    watch = Watch(source.ask, -1, 0)
    assert [await watch.current(wait=10) for _ in range(2)] == [1, 2]
    assert watch.peek() == 2
    assert await watch.current(wait=10) == 3
    await watch.stop()


async def test_question_that_fails_is_logged_and_asked_again(caplog: pytest.LogCaptureFixture):
    source = Source()
    answers: list[int] = []

    async def ask() -> int:
        answers.append(await source.ask())
        if len(answers) == 2:
            raise OverflowError("date value out of range")
        return answers[-1]

    watch = Watch(ask, -1, 0)
    assert [await watch.current(wait=10) for _ in range(3)] == [1, 1, 3]
    assert "date value out of range" in caplog.text
    await watch.stop()


async def test_slow_answer_is_not_waited_for_longer_and_not_asked_for_twice():
    source = Source()
    source.gate.clear()
    watch = Watch(source.ask, -1, 0)
    assert [await watch.current(wait=0.01) for _ in range(2)] == [0, 0]
    assert source.asked == 1
    source.gate.set()
    assert await watch.current(wait=10) == 1
    await watch.stop()
