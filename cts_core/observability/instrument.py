"""Instrumentation of ports: a proxy that reports each call to listeners, and names the port in what it raises.

Adapters know nothing of it.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, NamedTuple, Protocol, TypeVar, cast

from cts_core.errors import CTSError, UnavailableError
from cts_core.model.site import SiteName

RECORDS, OBJECTS, IDENTITY, EVENTS = "records", "objects", "identity", "events"
"""The ports' names in metrics, logs and ``/ready``."""
CLOCK = "clock"
"""The name of this server's clock there, as it differs from the record store's."""


class PortCall(NamedTuple):
    """A finished call to a port: its method and arguments, its result or error, and its duration."""

    port: str
    method: str
    args: tuple[Any, ...]
    seconds: float
    result: Any = None
    error: BaseException | None = None

    @property
    def outage(self) -> UnavailableError | TimeoutError | None:
        """The error if the port was down; None if it responded, even with a refusal."""
        if isinstance(self.error, UnavailableError | TimeoutError):
            return self.error
        if isinstance(self.result, list):
            # ``ObjectStore.head`` returns it in place of an object.
            return next((item for item in self.result if isinstance(item, UnavailableError)), None)
        return None


def site_name(site: SiteName) -> str:
    """Return the name of a site's port."""
    return f"site {site.value}"


_DESCRIPTIONS = {
    RECORDS: "the record store",
    OBJECTS: "the object store",
    IDENTITY: "the identity service",
    EVENTS: "the topic of events",
}


def describe_port(name: str) -> str:
    """Return what is behind a port, in words."""
    return _DESCRIPTIONS.get(name, f"the {name}")


class CallListener(Protocol):
    """A receiver of finished calls."""

    def on_call(self, call: PortCall) -> None:
        """Handle a finished call."""


_Port = TypeVar("_Port")


def instrument(port: _Port, name: str, *listeners: CallListener) -> _Port:
    """Return a proxy of the port that reports calls of coroutines and async generators; other attributes pass through."""
    return cast("_Port", Instrumented(port, name, listeners))


class Instrumented:
    """The proxy around one port."""

    def __init__(self, port: object, name: str, listeners: tuple[CallListener, ...]) -> None:
        self._port = port
        self._name = name
        self._listeners = listeners

    def __getattr__(self, method: str) -> Any:  # noqa: ANN401 - the port's attribute
        attribute = getattr(self._port, method)
        if not callable(attribute):
            return attribute
        if inspect.iscoroutinefunction(attribute):
            wrapped: Callable[..., Any] = self._timed(method, attribute)
        elif inspect.isasyncgenfunction(attribute):
            wrapped = self._timed_stream(method, attribute)
        else:
            return attribute
        self.__dict__[method] = wrapped
        return wrapped

    def _timed(
        self, method: str, function: Callable[..., Coroutine[Any, Any, Any]]
    ) -> Callable[..., Coroutine[Any, Any, Any]]:
        @functools.wraps(function)
        async def timed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the method's own
            start = time.perf_counter()
            try:
                result = await function(*args, **kwargs)
            except asyncio.CancelledError:
                raise  # the caller has left: it says nothing about the port
            except BaseException as e:
                self._notify(method, args, start, error=e)
                raise
            self._notify(method, args, start, result=result)
            return result

        return timed

    def _timed_stream(
        self, method: str, function: Callable[..., AsyncIterator[Any]]
    ) -> Callable[..., AsyncIterator[Any]]:
        @functools.wraps(function)
        async def timed(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:  # noqa: ANN401 - the method's own
            start, is_reported = time.perf_counter(), False
            stream = function(*args, **kwargs)
            try:
                async for chunk in stream:
                    if not is_reported:
                        # The time of the rest depends on the reader.
                        self._notify(method, args, start)
                        is_reported = True
                    yield chunk
                if not is_reported:
                    self._notify(method, args, start)
            except (asyncio.CancelledError, GeneratorExit):
                raise
            except BaseException as e:
                self._notify(method, args, start, error=e)
                raise
            finally:
                if inspect.isasyncgen(stream):
                    await stream.aclose()

        return timed

    def _notify(
        self,
        method: str,
        args: tuple[Any, ...],
        start: float,
        *,
        result: object = None,
        error: BaseException | None = None,
    ) -> None:
        seconds = time.perf_counter() - start
        if isinstance(error, CTSError) and error.dependency is None:
            error.dependency = self._name
        call = PortCall(self._name, method, args, seconds, result, error)
        for listener in self._listeners:
            listener.on_call(call)
