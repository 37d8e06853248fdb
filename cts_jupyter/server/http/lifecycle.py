"""What all requests share: the engine, or what stands in its place, once it runs, or why it does not; the transfers under way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from cts_core.engine.engine import Engine
from cts_jupyter.server.http.call import Core
from cts_jupyter.server.http.errors import NotRunningError
from cts_jupyter.server.http.route import Route

SETTING = "cts_service"
"""The tornado setting that holds the Service."""
START_SECONDS = 30.0
"""How long a request waits for what is starting."""
_THREADS = 2
"""For parsing, writing and compressing JSON."""

_T = TypeVar("_T")

log = logging.getLogger(__name__)


class Service:
    """Between the server extension, which starts and stops it, and the handler of requests."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = routes
        self.origins: Collection[str] = frozenset()
        """Origins whose pages may call the API."""
        self._core: Core | None = None
        self._failure = "CTS is still starting: try again in a moment"
        self._settled = asyncio.Event()
        self._transfers: set[asyncio.Task[Any]] = set()
        self._requests = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="cts-api")

    def start(self, core: Core) -> None:
        """Serve what has started."""
        self._core = core
        self.origins = frozenset(core.settings.cors_origins)
        self._settled.set()

    def fail(self, reason: str) -> None:
        """Answer every request with 503 and a reason that says what to do."""
        self._core = None
        self._failure = reason
        self._settled.set()

    def begin(self) -> None:
        """A request is under way."""
        self._requests += 1
        self._quiet.clear()

    def end(self) -> None:
        """A request has ended."""
        self._requests -= 1
        if not self._requests:
            self._quiet.set()

    async def drain(self, seconds: float) -> None:
        """Take no more requests, end every stream of events, and let the other requests end in this time."""
        core = self._core
        self.fail("This server is stopping: try again in a moment")
        if isinstance(core, Engine):
            await core.hub.close()
        try:
            async with asyncio.timeout(seconds):
                await self._quiet.wait()
        except TimeoutError:
            log.warning(
                "%d requests have not ended in %.0f s, and are cut off", self._requests, seconds
            )

    async def close(self) -> None:
        """End every transfer; whoever asks from now on is told that the server stops."""
        self.fail("CTS is stopping: start the server again")
        for transfer in self._transfers:
            transfer.cancel()
        await asyncio.gather(*self._transfers, return_exceptions=True)
        self._pool.shutdown(wait=False)

    @property
    def running(self) -> Core | None:
        """What runs, if anything does."""
        return self._core

    async def core(self) -> Core:
        """What runs. Raises NotRunningError, which says what to do."""
        if not self._settled.is_set():
            try:
                async with asyncio.timeout(START_SECONDS):
                    await self._settled.wait()
            except TimeoutError:
                raise NotRunningError(self._failure) from None
        if self._core is None:
            raise NotRunningError(self._failure)
        return self._core

    async def run(self, work: Callable[[], _T]) -> _T:
        """Do work that would hold up the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def end_with_server(self, transfer: asyncio.Task[Any]) -> None:
        """Have a download, an upload or a stream of events canceled when the server stops."""
        self._transfers.add(transfer)
        transfer.add_done_callback(self._transfers.discard)
