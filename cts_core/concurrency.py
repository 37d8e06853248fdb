"""What would keep the event loop busy, done beside it. For Python alone: a thread in one long call of C holds the loop, too."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

THREADS = 2
"""That compute at once; more would only take turns."""

_P = ParamSpec("_P")
_T = TypeVar("_T")
_pool = ThreadPoolExecutor(THREADS, thread_name_prefix="cts-aside")


async def aside(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """What the function returns, or raises."""
    work = functools.partial(function, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_pool, work)
