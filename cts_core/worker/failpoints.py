"""Failpoints: named points where a test can kill or stop a process. Without the variable they do nothing.

``CTS_FAILPOINTS`` holds ``name=action`` pairs separated by commas. A name may end in ``@k`` for its k-th passing only,
counted in a process, which may run several containers.
Actions: ``kill`` (SIGKILL to itself), ``stop`` (SIGSTOP to itself), ``kill:<pid>``.
"""

from __future__ import annotations

import os
import signal

_passed: dict[str, int] = {}


def failpoint(name: str) -> None:
    """Pass the point ``name``, and perform the action that CTS_FAILPOINTS has for it."""
    spec = os.environ.get("CTS_FAILPOINTS")
    if not spec:
        return
    _passed[name] = _passed.get(name, 0) + 1
    for entry in spec.split(","):
        point, _, action = entry.partition("=")
        point, _, turn = point.partition("@")
        if point != name or (turn and int(turn) != _passed[name]):
            continue
        verb, _, pid = action.partition(":")
        number = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}[verb]
        try:
            os.kill(int(pid) if pid else os.getpid(), number)
        except ProcessLookupError:
            # An earlier passing has already killed that process.
            continue
