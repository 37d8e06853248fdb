"""The schedule of random faults: a pure function of the seed."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["killed", "stopped", "frozen", "slowed", "cut", "full", "clock"]
MAX_AT_ONCE = 3
_WEIGHTS = (1, 3, 2)
"""Of one, two and three faults at once."""
_SHORTEST, _LONGEST = 0.5, 30.0
"""The seconds that a fault lasts; half of all last less than four."""
_CALM = (1.0, 6.0)
"""Between the seconds of these, all is well before the next faults."""
_DELAYS = (0.05, 0.5)
_STEPS = (0.5, 90.0)


@dataclass(frozen=True)
class Fault:
    """What befalls one part of the service, from ``start`` for ``seconds``, counted from the beginning."""

    target: str
    kind: Kind
    start: float
    seconds: float
    amount: float = 0.0
    """The seconds by which a slowed link delays each piece, or a clock is set forward."""

    @property
    def end(self) -> float:
        return self.start + self.seconds

    def __str__(self) -> str:
        amount = f" by {self.amount:+.2f} s" if self.amount else ""
        return f"{self.start:7.1f} to {self.end:5.1f} s: {self.target} {self.kind}{amount}"


def make_schedule(
    seed: int, seconds: float, targets: Mapping[str, Sequence[Kind]]
) -> tuple[Fault, ...]:
    """Return faults that befall the targets, each with one of its kinds, and are over before ``seconds``.

    They come in waves of up to three, which all overlap; of one target only one at a time.
    """
    choice = random.Random(seed)
    names = sorted(targets)
    schedule: list[Fault] = []
    begin = choice.uniform(*_CALM)
    while begin + _SHORTEST < seconds:
        count = choice.choices(range(1, MAX_AT_ONCE + 1), _WEIGHTS)[0]
        wave = [
            _fault(choice, name, targets[name], begin, seconds)
            for name in choice.sample(names, min(count, len(names)))
        ]
        schedule += wave
        begin = max(fault.end for fault in wave) + choice.uniform(*_CALM)
    return tuple(sorted(schedule, key=lambda fault: fault.start))


def _fault(
    choice: random.Random, target: str, kinds: Sequence[Kind], begin: float, until: float
) -> Fault:
    """Return a fault that lasts at ``begin + _SHORTEST / 2``, where those of its wave overlap."""
    kind = choice.choice(kinds)
    start = begin + choice.uniform(0, _SHORTEST / 2)
    longest = min(_LONGEST, until - start)
    seconds = math.exp(choice.uniform(math.log(_SHORTEST), math.log(max(_SHORTEST, longest))))
    amount = 0.0
    if kind == "slowed":
        amount = choice.uniform(*_DELAYS)
    elif kind == "clock":
        amount = choice.choice((-1, 1)) * choice.uniform(*_STEPS)
    return Fault(target, kind, start, min(seconds, until - start), amount)
