"""Do something with each of many things, several at a time, although some fail, and show how far it is."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import islice
from typing import Generic, TypeVar

from cts_jupyter import formatting
from cts_jupyter.client.transport import CTSClientError, CTSConnectionError, CTSRequestError
from cts_jupyter.notebook.errors import MagicError
from cts_jupyter.notebook.progress import progress_bar

AT_ONCE = 8
"""The number of things that are worked on at a time."""
_REFRESH_SECONDS = 0.5
_NO_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
_ABOUT_ONE = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND})

_Thing = TypeVar("_Thing")
_Result = TypeVar("_Result")


@dataclass
class Attempts(Generic[_Thing, _Result]):
    """What came of each thing, in the things' order."""

    done: dict[_Thing, _Result] = field(default_factory=dict)
    failed: dict[_Thing, Exception] = field(default_factory=dict)

    def name_failures(
        self,
        describe: Callable[[CTSClientError], str],
        name: Callable[[_Thing], object] = lambda thing: thing,
    ) -> str:
        """Return the first failures, each with its reason; ``describe`` returns that of an error of the service."""
        shown = islice(self.failed.items(), formatting.MAX_NAMED)
        named = [f"{name(thing)} ({_reason(describe, error)})" for thing, error in shown]
        return formatting.name_some(named, total=len(self.failed))


class StoppedError(Exception):
    """The person has interrupted the work, or an error has ended it."""


class Stop:
    """Ends work in progress on other threads, as soon as it asks."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """End the work."""
        self._event.set()

    def check(self, _bytes: int = 0) -> None:
        """Raise StoppedError when the work has been ended; transfers call it for each piece."""
        if self._event.is_set():
            raise StoppedError


def try_each(
    things: Sequence[_Thing], action: Callable[[_Thing, Stop], _Result], *, doing: str
) -> Attempts[_Thing, _Result]:
    """Call ``action`` with each thing on several threads. ``doing`` is what the bar of progress says, such as ``put``.

    Raises an error that the others would meet, too: of the disk, the login, or a service that cannot be reached.
    """
    stop = Stop()
    results: dict[_Thing, _Result] = {}
    failed: dict[_Thing, Exception] = {}
    coming = iter(things)
    running: dict[Future[_Result], _Thing] = {}
    pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="cts-each")
    try:
        with progress_bar(doing, len(things)) as advance:
            while True:
                for thing in islice(coming, AT_ONCE - len(running)):
                    running[pool.submit(action, thing, stop)] = thing
                if not running:
                    break
                ended, _ = wait(running, _REFRESH_SECONDS, FIRST_COMPLETED)
                for future in ended:
                    thing = running.pop(future)
                    try:
                        results[thing] = future.result()
                    except (OSError, CTSClientError) as e:
                        if not _is_about_one(e):
                            raise
                        failed[thing] = e
                advance(len(ended))
    except KeyboardInterrupt:
        raise MagicError(
            f"You stopped it: {doing} is done for {len(results):,} of {len(things):,}"
        ) from None
    finally:
        # After an error or an interrupt, what still runs ends by itself.
        stop.set()
        pool.shutdown(wait=False)
    return Attempts(_in_order(things, results), _in_order(things, failed))


_Value = TypeVar("_Value")


def _in_order(things: Sequence[_Thing], values: Mapping[_Thing, _Value]) -> dict[_Thing, _Value]:
    return {thing: values[thing] for thing in things if thing in values}


def _reason(describe: Callable[[CTSClientError], str], error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return describe(error) if isinstance(error, CTSClientError) else str(error)


def _is_about_one(error: OSError | CTSClientError) -> bool:
    if isinstance(error, OSError):
        return error.errno not in _NO_DISK
    if isinstance(error, CTSRequestError):
        return error.status in _ABOUT_ONE
    return not isinstance(error, CTSConnectionError)
