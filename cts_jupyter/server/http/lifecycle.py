"""The state that all requests share: starting, running, draining or stopped, and the transfers in progress."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from typing import Any

from cts_core.engine.engine import Engine
from cts_jupyter.server.http.call import Core
from cts_jupyter.server.http.errors import NotRunningError
from cts_jupyter.server.http.route import Route

SETTING = "cts_lifecycle"
"""The tornado setting that holds the Lifecycle."""
START_SECONDS = 30.0
"""How long a request waits for an application that is starting."""
log = logging.getLogger(__name__)


class Lifecycle:
    """The application behind a route table, or the reason why it does not run; started and stopped by the extension."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = routes
        self.origins: Collection[str] = frozenset()
        """Origins whose pages may call the API."""
        self._core: Core | None = None
        self._failure = "CTS is still starting: try again in a moment"
        self._started = asyncio.Event()
        self._transfers: set[asyncio.Task[Any]] = set()
        self._requests = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def start(self, core: Core) -> None:
        """Serve an application that has started."""
        self._core = core
        self.origins = frozenset(core.settings.cors_origins)
        self._started.set()

    def fail(self, reason: str) -> None:
        """Respond to every request with 503 and a reason that says what to do."""
        self._core = None
        self._failure = reason
        self._started.set()

    def begin_request(self) -> None:
        """Count a request as in progress."""
        self._requests += 1
        self._idle.clear()

    def end_request(self) -> None:
        """Count a request as finished."""
        self._requests -= 1
        if not self._requests:
            self._idle.set()

    async def drain(self, seconds: float) -> None:
        """Accept no more requests, end every event stream and every wait for a log, and wait at most so long for the other requests."""
        core = self._core
        self.fail("This server is stopping: try again in a moment")
        if isinstance(core, Engine):
            await core.end_streams()
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            log.warning(
                "%d requests have not ended in %.0f s, and are cut off", self._requests, seconds
            )

    async def close(self) -> None:
        """Cancel every transfer; requests from now on get 503, because the server stops."""
        self.fail("CTS is stopping: start the server again")
        for transfer in self._transfers:
            transfer.cancel()
        await asyncio.gather(*self._transfers, return_exceptions=True)

    @property
    def running(self) -> Core | None:
        """The application, or None while it does not run."""
        return self._core

    async def wait_until_running(self) -> Core:
        """Return the application once it has started. Raises NotRunningError, which says what to do."""
        if not self._started.is_set():
            try:
                async with asyncio.timeout(START_SECONDS):
                    await self._started.wait()
            except TimeoutError:
                raise NotRunningError(self._failure) from None
        if self._core is None:
            raise NotRunningError(self._failure)
        return self._core

    def cancel_on_close(self, transfer: asyncio.Task[Any]) -> None:
        """Register a download, an upload or an event stream to be canceled when the server stops."""
        self._transfers.add(transfer)
        transfer.add_done_callback(self._transfers.discard)
