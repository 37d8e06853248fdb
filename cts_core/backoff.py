"""When what has failed is tried again."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass

MAX_KNOWN = 2000
"""Things of which one object knows. Beyond it the one whose pause was set longest ago is as if nothing had failed."""


@dataclass(frozen=True)
class _Pause:
    until: float
    """Of the monotonic clock."""
    seconds: float = 0.0
    """How long it was, where something has failed."""
    reason: str | None = None


class Pauses:
    """By the names of things: each failure of one makes its pause twice as long, up to a longest one."""

    def __init__(self, first: float, longest: float) -> None:
        """``first`` and ``longest`` in seconds."""
        self._first = first
        self._longest = longest
        self._pauses: OrderedDict[str, _Pause] = OrderedDict()

    def is_due(self, name: str) -> bool:
        """Whether it may be tried now."""
        pause = self._pauses.get(name)
        return pause is None or pause.until <= time.monotonic()

    def reason(self, name: str) -> str | None:
        """Why it has to wait now; None where it need not, or nothing is wrong with it."""
        return None if self.is_due(name) else self._pauses[name].reason

    def fail(self, name: str, reason: str) -> float:
        """It has failed; returns the seconds of its pause."""
        before = self._pauses.get(name)
        seconds = min(
            self._longest, 2 * before.seconds if before and before.seconds else self._first
        )
        self._set(name, _Pause(time.monotonic() + seconds, seconds, reason))
        return seconds

    def wait(self, name: str, seconds: float) -> None:
        """Nothing is wrong with it, but it is not for now."""
        self._set(name, _Pause(time.monotonic() + seconds))

    def end(self, name: str) -> None:
        """It went well, or is not wanted any more."""
        self._pauses.pop(name, None)

    def _set(self, name: str, pause: _Pause) -> None:
        self._pauses[name] = pause
        self._pauses.move_to_end(name)
        if len(self._pauses) > MAX_KNOWN:
            self._pauses.popitem(last=False)
