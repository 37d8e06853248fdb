"""Removes containers of docker and podman whose workers are gone.

An engine lets a container go on when its worker is killed. Each worker therefore looks, when it starts, whether one of
another is left; those whose holder may live, or cannot be seen from here, are left alone.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from contextlib import suppress
from typing import Sequence

from cts_core.worker.runtimes import command as cli
from cts_core.worker.runtimes.base import ContainerRuntimeError
from cts_core.worker.runtimes.liveness import NAME, PLACE, is_gone, place
from cts_core.worker.runtimes.processes import become_container

_PATIENCE_SECONDS = 60.0
"""With each of the three commands."""
_MOST = 1000
"""Containers that are looked at: more than live on one machine, or they could hide those that are left."""
_FORM = f'{{{{.Id}}}} {{{{index .Config.Labels "{NAME}"}}}}'


def remove_orphans(command: Sequence[str]) -> list[str]:
    """End and remove the engine's containers whose holders are gone; returns the ids of those it removed.

    Raises ContainerRuntimeError. What the engine says of others goes to stderr.
    """
    here = place()
    if not here:
        return []
    ours = ("--filter", f"label={PLACE}={here}")
    found = _ask(command, "ps", "--all", "--quiet", "--no-trunc", *ours).out.split()[:_MOST]
    if not found:
        return []
    # One that has been removed meanwhile is complained of; the others are told.
    told = _ask(command, "inspect", "--format", _FORM, *found).out
    lines = [line.split() for line in told.splitlines()]
    orphans = [words[0] for words in lines if len(words) == 2 and is_gone(words[1])]  # noqa: PLR2004 - an id and a name
    if not orphans:
        return []
    answer = _ask(command, "rm", "--force", "--volumes", *orphans)
    sys.stderr.write(answer.err)
    return answer.out.split()


def _ask(command: Sequence[str], *words: str) -> cli.Answer:
    return cli.run([*command, *words], patience=_PATIENCE_SECONDS)


def begin_removal(command: Sequence[str]) -> None:
    """Have ``remove_orphans`` done by a child, which ends with this process at the latest.

    Raises nothing. For a process of one thread, which reaps its children.
    """
    if not place():
        return
    worker = os.getpid()
    with suppress(OSError):
        if os.fork() == 0:
            _remove(command, worker)


def _remove(command: Sequence[str], worker: int) -> None:
    """Never returns: a child must not go on as a worker."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        become_container(worker)
        for orphan in remove_orphans(command):
            sys.stderr.write(f"The container {orphan} was removed: its worker is gone\n")
    except ContainerRuntimeError as e:
        sys.stderr.write(f"Containers of workers that are gone may be left: {e}\n")
    except BaseException:  # noqa: BLE001 - whatever it is, it is no matter of the worker's container
        traceback.print_exc()
    finally:
        os._exit(0)
