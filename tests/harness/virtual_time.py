"""An event loop on a virtual clock: a year passes as fast as what happens in it can be computed."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

_T = TypeVar("_T")
_START = 1000.0


class _JumpingSelector(selectors.SelectSelector):
    """Waits for nothing: the clock jumps to the end of the wait."""

    def __init__(self) -> None:
        super().__init__()
        self.now = _START

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("Everything waits, and nothing will ever happen")
        self.now += max(0.0, timeout)
        return super().select(0)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Jumps to the next timer as soon as there is nothing to do now. What threads would do is done at once."""

    def __init__(self) -> None:
        self._clock = _JumpingSelector()
        super().__init__(self._clock)
        # Or a timer that is due now would not be: after half a year two numbers are further apart than the loop's own.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self._clock.now

    def run_in_executor(self, _executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as e:  # noqa: BLE001 - it is raised where the future is awaited
            future.set_exception(e)
        return future


def run_in_virtual_time(work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Return what the coroutine returns, for which ``time.monotonic`` tells the virtual time."""
    with (
        asyncio.Runner(loop_factory=VirtualTimeLoop) as runner,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(time, "monotonic", runner.get_loop().time)
        return runner.run(work())
