"""The pool as the site asks it: calls into the program that holds HTCondor's bindings."""

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

MAX_WAITING = 100
"""Calls that may wait for their turn; there is one at a time."""
_PROGRAM = Path(__file__).with_name("bindings_server.py")
_LENGTH = struct.Struct(">I")
_CLOSE_SECONDS = 5.0


class Pool:
    """One pool. Every call raises UnavailableError when it cannot be asked, or does not answer in time."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._process: asyncio.subprocess.Process | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        """What the process has on disk, to be removed even if it is killed."""
        self.trouble: str | None = None
        """Why the last call that is over was not answered, or None."""

    @property
    def is_at_work(self) -> bool:
        """Whether a call is under way, which others wait for."""
        return self._turn.locked()

    async def call(
        self,
        method: str,
        *,
        seconds: float | None = None,
        **arguments: Any,  # noqa: ANN401 - as the method has them
    ) -> Any:  # noqa: ANN401 - what the method answers
        """Call a method of ``bindings.Pool``, which may take so long once it is its turn; None: as usual.

        Raises IllegalParameterError for what the pool refuses, ResourceUnavailableError while it takes no more,
        ConfigError when none is configured.
        """
        if self._waiting >= MAX_WAITING:
            raise UnavailableError("Too many questions to HTCondor wait already; try again")
        self._waiting += 1
        try:
            async with self._turn:
                request = {"method": method, "arguments": arguments}
                answer = await self._ask(request, self._timeout if seconds is None else seconds)
        except UnavailableError as e:
            self.trouble = str(e)
            raise
        finally:
            self._waiting -= 1
        self.trouble = None
        match answer.get("kind"):
            case None:
                return answer["answer"]
            case "config":
                raise ConfigError(answer["error"])
            case "refused":
                raise IllegalParameterError(f"HTCondor refuses it: {answer['error']}")
            case "full":
                raise ResourceUnavailableError(f"HTCondor: {answer['error']}")
            case _:
                self.trouble = f"HTCondor cannot be reached: {answer['error']}"
                raise UnavailableError(self.trouble)

    async def attempt(self, action: str, constraint: str, reason: str) -> None:
        """Do this with the processes that meet the constraint; what the pool refuses is logged."""
        try:
            await self.call("act", action=action, constraint=constraint, reason=reason)
        except UnavailableError:
            raise
        except CTSError as e:
            log.warning("HTCondor did not %s %s: %s", action.lower(), constraint, e)

    async def _ask(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:  # noqa: ASYNC109 - what it closes is its own
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
            # Whoever comes next must not read this answer.
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
        answer: dict[str, Any] = json.loads(await reader.readexactly(length))
        return answer

    async def close(self) -> None:
        """End the program, whatever it waits for. The next call starts another."""
        process, self._process = self._process, None
        folder, self._folder = self._folder, None
        with folder or contextlib.nullcontext():
            if process is None:
                return
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            # What was sent meanwhile is read, or the pipe would keep the end from being seen.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await process.communicate()
