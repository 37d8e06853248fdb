"""Stands before a port and tells how each of its calls went. Adapters know nothing of it."""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

from cts_core.errors import UnavailableError
from cts_core.model.site import SiteName

RECORDS, OBJECTS, IDENTITY, EVENTS = "records", "objects", "identity", "events"
"""The ports' names in figures, logs and ``/ready``."""


@dataclass(frozen=True)
class PortCall:
    """A call that has ended: what was asked of which port, what came of it, and after how long."""

    port: str
    method: str
    args: tuple[Any, ...]
    seconds: float
    answer: Any = None
    error: BaseException | None = None

    @property
    def outage(self) -> UnavailableError | TimeoutError | None:
        """Why the port could not be used; None when it answered, be it by a refusal."""
        if isinstance(self.error, UnavailableError | TimeoutError):
            return self.error
        if isinstance(self.answer, list):
            # ``ObjectStore.head`` tells it in the place of an object.
            return next((item for item in self.answer if isinstance(item, UnavailableError)), None)
        return None


def site_name(cluster: SiteName) -> str:
    """The name of a site's port."""
    return f"site {cluster.value}"


class CallListener(Protocol):
    """Who is told of calls."""

    def called(self, call: PortCall) -> None:
        """A call has ended."""


_Port = TypeVar("_Port")


def observed(port: _Port, name: str, *listeners: CallListener) -> _Port:
    """The same port, of which the listeners hear. What is no method passes through."""
    return cast("_Port", _Observed(port, name, listeners))


class _Observed:
    def __init__(self, port: object, name: str, listeners: tuple[CallListener, ...]) -> None:
        self._port = port
        self._name = name
        self._listeners = listeners

    def __getattr__(self, method: str) -> Any:  # noqa: ANN401 - whatever the port has
        found = getattr(self._port, method)
        if inspect.iscoroutinefunction(found):
            wrapped: Callable[..., Any] = self._timed(method, found)
        elif inspect.isasyncgenfunction(found):
            wrapped = self._timed_stream(method, found)
        else:
            return found
        self.__dict__[method] = wrapped
        return wrapped

    def _timed(
        self, method: str, function: Callable[..., Coroutine[Any, Any, Any]]
    ) -> Callable[..., Coroutine[Any, Any, Any]]:
        @functools.wraps(function)
        async def timed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the method's own
            start = time.perf_counter()
            try:
                answer = await function(*args, **kwargs)
            except asyncio.CancelledError:
                raise  # whoever asked has left: it says nothing of the port
            except BaseException as e:
                self._tell(method, args, start, error=e)
                raise
            self._tell(method, args, start, answer=answer)
            return answer

        return timed

    def _timed_stream(
        self, method: str, function: Callable[..., AsyncIterator[Any]]
    ) -> Callable[..., AsyncIterator[Any]]:
        @functools.wraps(function)
        async def timed(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:  # noqa: ANN401 - the method's own
            start, is_told = time.perf_counter(), False
            stream = function(*args, **kwargs)
            try:
                async for piece in stream:
                    if not is_told:
                        # How long the rest takes is up to the reader.
                        self._tell(method, args, start)
                        is_told = True
                    yield piece
                if not is_told:
                    self._tell(method, args, start)
            except (asyncio.CancelledError, GeneratorExit):
                raise
            except BaseException as e:
                self._tell(method, args, start, error=e)
                raise
            finally:
                if inspect.isasyncgen(stream):
                    await stream.aclose()

        return timed

    def _tell(
        self,
        method: str,
        args: tuple[Any, ...],
        start: float,
        *,
        answer: object = None,
        error: BaseException | None = None,
    ) -> None:
        seconds = time.perf_counter() - start
        call = PortCall(self._name, method, args, seconds, answer, error)
        for listener in self._listeners:
            listener.called(call)
