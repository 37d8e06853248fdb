"""Client of the program that runs HTCondor's bindings (``bindings_server``): starts it, and calls its methods."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any

from cts_core.errors import (
    ConfigError,
    CTSError,
    IllegalParameterError,
    ResourceUnavailableError,
    UnavailableError,
)

log = logging.getLogger(__name__)

MAX_WAITING_CALLS = 100
"""Calls that may wait; one runs at a time."""
_PROGRAM = Path(__file__).with_name("bindings_server.py")
_LENGTH = struct.Struct(">I")
_CLOSE_SECONDS = 5.0


class BindingsClient:
    """Calls HTCondor. Every call raises UnavailableError when HTCondor cannot be reached or does not answer in time."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._lock = asyncio.Lock()
        self._waiting = 0
        self._process: asyncio.subprocess.Process | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        """The temporary files of the process, to be removed even if it is killed."""
        self.last_error: str | None = None
        """Why the last finished call was not answered, or None if it was."""

    @property
    def is_busy(self) -> bool:
        """Whether a call is running, for which others have to wait."""
        return self._lock.locked()

    async def call(
        self,
        method: str,
        *,
        seconds: float | None = None,
        **arguments: Any,  # noqa: ANN401 - as the method has them
    ) -> Any:  # noqa: ANN401 - what the method returns
        """Call a method of ``bindings_server.PoolConnection``, and return its result.

        ``seconds`` bounds the call once it runs; by default the timeout of this client. Raises IllegalParameterError
        for what the pool refuses, ResourceUnavailableError while it accepts no more, ConfigError when no pool is
        configured.
        """
        if self._waiting >= MAX_WAITING_CALLS:
            raise UnavailableError("Too many questions to HTCondor wait already; try again")
        self._waiting += 1
        try:
            async with self._lock:
                request = {"method": method, "arguments": arguments}
                response = await self._request(
                    request, self._timeout if seconds is None else seconds
                )
        except UnavailableError as e:
            self.last_error = str(e)
            raise
        finally:
            self._waiting -= 1
        self.last_error = None
        match response.get("kind"):
            case None:
                return response["answer"]
            case "config":
                raise ConfigError(response["error"])
            case "refused":
                raise IllegalParameterError(f"HTCondor refuses it: {response['error']}")
            case "full":
                raise ResourceUnavailableError(f"HTCondor: {response['error']}")
            case _:
                self.last_error = f"HTCondor cannot be reached: {response['error']}"
                raise UnavailableError(self.last_error)

    async def attempt(self, action: str, constraint: str, reason: str) -> None:
        """Apply an action of ``htcondor2.JobAction`` to the processes that match; log what the pool refuses.

        Raises UnavailableError.
        """
        try:
            await self.call("act", action=action, constraint=constraint, reason=reason)
        except UnavailableError:
            raise
        except CTSError as e:
            log.warning("HTCondor did not %s %s: %s", action.lower(), constraint, e)

    async def _request(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:  # noqa: ASYNC109 - it closes the process on a timeout
        try:
            async with asyncio.timeout(timeout):
                return await self._exchange(json.dumps(request).encode())
        except TimeoutError as e:
            await self.close()
            raise UnavailableError(f"HTCondor has not answered for {timeout:g} seconds") from e
        except (OSError, EOFError) as e:
            await self.close()
            raise UnavailableError(f"The program that talks to HTCondor has ended: {e}") from e
        except BaseException:
            # The next call must not read the response to this one.
            await self.close()
            raise

    async def _exchange(self, request: bytes) -> dict[str, Any]:
        if self._process is None:
            self._folder = tempfile.TemporaryDirectory(prefix="cts-htcondor-")
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                str(_PROGRAM),
                self._folder.name,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        writer, reader = self._process.stdin, self._process.stdout
        if writer is None or reader is None:
            raise EOFError("it has no pipes")
        writer.write(_LENGTH.pack(len(request)) + request)
        await writer.drain()
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        response: dict[str, Any] = json.loads(await reader.readexactly(length))
        return response

    async def close(self) -> None:
        """Kill the program, whatever it waits for. The next call starts another."""
        process, self._process = self._process, None
        folder, self._folder = self._folder, None
        with folder or contextlib.nullcontext():
            if process is None:
                return
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            # Unread output in the pipe would keep the end of the process from being noticed.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await process.communicate()
