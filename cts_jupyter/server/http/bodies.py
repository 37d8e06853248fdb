"""Bodies of requests while they arrive: how slowly they may come, and how much of them may be in memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from cts_core.config.sections import LimitsSettings
from cts_core.errors import TooManyRequestsError

SETTING = "cts_bodies"
"""The tornado setting that holds the Bodies."""
SMALL_BODY = 64 << 10
"""Bytes of a body that need no reservation: its connection takes as many anyhow."""
RETRY_SECONDS = 5
"""The Retry-After of a request whose body finds no room."""


@dataclass(eq=False)
class Reservation:
    """Room in memory for one body."""

    owner: Hashable
    size: int
    granted: asyncio.Future[None] = field(default_factory=asyncio.Future)


class BodyBudget:
    """Room in memory for bodies, of one owner and of all; who finds none waits for it, and holds the sender back.

    No owner gets more than a quarter of it, so that no few of them keep the others out.
    """

    def __init__(self, room: int, each: int, wait_seconds: float) -> None:
        self._all = room
        self._each = min(each, room // 4)
        self._wait_seconds = wait_seconds
        self._held: Counter[Hashable] = Counter()
        """Bytes by owner."""
        self._waiting: list[Reservation] = []

    @property
    def held(self) -> int:
        """The bytes that are reserved."""
        return self._held.total()

    async def reserve(self, owner: Hashable, size: int) -> Reservation:
        """Return room for a body of so many bytes, to be released. Raises TooManyRequestsError."""
        reservation = Reservation(owner, min(size, self._each))
        self._waiting.append(reservation)
        self._grant()
        try:
            async with asyncio.timeout(self._wait_seconds):
                await reservation.granted
        except BaseException as e:
            self.release(reservation)
            if isinstance(e, TimeoutError):
                raise TooManyRequestsError(
                    "The bodies of other requests take all the memory that there is for them: send fewer at a time, "
                    f"and try again in {RETRY_SECONDS} s",
                    retry_after=RETRY_SECONDS,
                ) from None
            raise
        return reservation

    def release(self, reservation: Reservation) -> None:
        """Give room back, or stop waiting for it."""
        if reservation in self._waiting:
            self._waiting.remove(reservation)
            return
        self._held[reservation.owner] -= reservation.size
        self._held += Counter()  # Drops owners without any.
        self._grant()

    def _grant(self) -> None:
        """Grant room in the order of asking, past those whose owner has none left."""
        for reservation in list(self._waiting):
            owner, size = reservation.owner, reservation.size
            if self.held + size <= self._all and self._held[owner] + size <= self._each:
                self._waiting.remove(reservation)
                self._held[owner] += size
                if not reservation.granted.done():
                    reservation.granted.set_result(None)


class BodyClock:
    """Watches that a body comes at the lowest rate at least, in each window of time in which nothing held it back."""

    def __init__(self, window: float, rate: int, on_stall: Callable[[], None]) -> None:
        self._window = window
        self._rate = rate
        self._on_stall = on_stall
        self._received = 0
        self._is_held = self._was_held = False
        self._timer = asyncio.get_running_loop().call_later(window, self._check)

    def count(self, size: int) -> None:
        """Count bytes that have come."""
        self._received += size

    def hold(self) -> None:
        """Judge no window until ``resume``, nor the one of it: the service itself holds the sender back."""
        self._is_held = self._was_held = True

    def resume(self) -> None:
        """Judge the next windows again."""
        self._is_held = False

    def hurry(self) -> None:
        """Begin a new window, a third as long."""
        self._window /= 3
        self._restart()

    def stop(self) -> None:
        """Watch no more."""
        self._timer.cancel()

    def _restart(self) -> None:
        self._timer.cancel()
        self._received, self._was_held = 0, self._is_held
        self._timer = asyncio.get_running_loop().call_later(self._window, self._check)

    def _check(self) -> None:
        if self._was_held or self._received >= self._rate * self._window:
            self._restart()
        else:
            self._on_stall()


class Bodies:
    """The bodies that arrive at this server."""

    def __init__(self, limits: LimitsSettings) -> None:
        room, each = limits.all_bodies_mib << 20, limits.body_mib << 20
        # Apart, so that uploads, which last, never hold JSON back.
        self.json = BodyBudget(room // 4, each, limits.body_wait_s)
        self.uploads = BodyBudget(room - room // 4, each, limits.body_wait_s)
        self._limits = limits
        self._clocks: set[BodyClock] = set()

    def watch(self, on_stall: Callable[[], None]) -> BodyClock:
        """Return a running clock, to be given to ``forget``."""
        clock = BodyClock(self._limits.body_window_s, self._limits.body_rate, on_stall)
        self._clocks.add(clock)
        return clock

    def forget(self, clock: BodyClock) -> None:
        """Stop a clock."""
        clock.stop()
        self._clocks.discard(clock)

    def hurry(self) -> None:
        """Give up bodies that stall sooner, since the server is stopping."""
        for clock in self._clocks:
            clock.hurry()
