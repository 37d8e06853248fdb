"""Removes orphans: containers of docker and podman whose workers have ended.

The runtime keeps a container running when its worker is killed. Each worker therefore checks, when it starts, for containers
of others; those whose worker may live, or is not visible from here, are left alone.
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
from cts_core.worker.runtimes.liveness import SCOPE_LABEL, SOCKET_LABEL, is_gone, scope
from cts_core.worker.runtimes.processes import prepare_child

_TIMEOUT = 60.0
"""The timeout for each of the three commands."""
_MAX_CONTAINERS = 1000
"""The most containers to inspect: more than one machine runs, since unexamined ones could be orphans."""
_FORMAT = f'{{{{.Id}}}} {{{{index .Config.Labels "{SOCKET_LABEL}"}}}}'


def remove_orphans(command: Sequence[str]) -> list[str]:
    """Kill and remove the containers whose workers have ended, and return their ids.

    Raises ContainerRuntimeError. The runtime's messages about the other containers go to stderr.
    """
    own_scope = scope()
    if not own_scope:
        return []
    ours = ("--filter", f"label={SCOPE_LABEL}={own_scope}")
    ids = _run(command, "ps", "--all", "--quiet", "--no-trunc", *ours).out.split()[:_MAX_CONTAINERS]
    if not ids:
        return []
    # A container that was removed meanwhile causes an error message; the others are still listed.
    output = _run(command, "inspect", "--format", _FORMAT, *ids).out
    lines = [line.split() for line in output.splitlines()]
    orphans = [words[0] for words in lines if len(words) == 2 and is_gone(words[1])]  # noqa: PLR2004 - an id and a name
    if not orphans:
        return []
    result = _run(command, "rm", "--force", "--volumes", *orphans)
    sys.stderr.write(result.err)
    return result.out.split()


def _run(command: Sequence[str], *arguments: str) -> cli.CommandResult:
    return cli.run([*command, *arguments], timeout=_TIMEOUT)


def start_removal(command: Sequence[str]) -> None:
    """Have ``remove_orphans`` run in a child process, which ends with this process at the latest.

    Raises nothing. For a single-threaded process that reaps its children.
    """
    if not scope():
        return
    worker = os.getpid()
    with suppress(OSError):
        if os.fork() == 0:
            _remove(command, worker)


def _remove(command: Sequence[str], worker: int) -> None:
    """Remove orphans and exit. Never returns, since a child must not continue as a worker."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        prepare_child(worker)
        for orphan in remove_orphans(command):
            sys.stderr.write(f"The container {orphan} was removed: its worker is gone\n")
    except ContainerRuntimeError as e:
        sys.stderr.write(f"Containers of workers that are gone may be left: {e}\n")
    except BaseException:  # noqa: BLE001 - no failure here may affect the worker's container
        traceback.print_exc()
    finally:
        os._exit(0)
