"""Do something with each of many things, although some fail."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TypeVar

from cts_jupyter.client.transport import CTSClientError, CTSConnectionError, CTSRequestError
from cts_jupyter.notebook.magics.hints import format_error

_NO_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
_ABOUT_ONE = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND})

_Thing = TypeVar("_Thing")


def try_each(things: Iterable[_Thing], action: Callable[[_Thing], object]) -> dict[_Thing, str]:
    """Call ``action`` with each thing, and return why it failed for some.

    Raises an error that the others would meet, too: of the disk, the login, or a service that cannot be reached.
    """
    failed = {}
    for thing in things:
        try:
            action(thing)
        except OSError as e:
            if e.errno in _NO_DISK:
                raise
            failed[thing] = e.strerror or str(e)
        except CTSClientError as e:
            if not _is_about_one(e):
                raise
            failed[thing] = format_error(e)
    return failed


def _is_about_one(error: CTSClientError) -> bool:
    if isinstance(error, CTSRequestError):
        return error.status in _ABOUT_ONE
    return not isinstance(error, CTSConnectionError)
