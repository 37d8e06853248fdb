"""Requests to an S3 server about one object, tried again where that may help.

Who allows them is another's business (``Grants``). What may pass, such as a server that is away, is tried again for
long: a container that has run should not be lost because its outputs could not be stored for some minutes.
"""

from __future__ import annotations

import random
import time
from contextlib import closing, contextmanager
from typing import Callable, Dict, Iterator, List, Mapping, Protocol, TypeVar

from cts_core.worker.http.client import (
    Http,
    ResponseError,
    SignedRequest,
    TransientError,
    UntrustedCertificateError,
)
from cts_core.worker.parallel import Lanes
from cts_core.worker.s3.errors import RangeIgnoredError, S3Error, meaning

PATIENCE_SECONDS = 900.0
"""For how long an object is tried without any progress."""
MAX_PAUSE_SECONDS = 10.0
"""The most between two tries."""

_PARTIAL = 206
_T = TypeVar("_T")


class RequestSigner(Protocol):
    """Allows requests: by keys, or by asking somebody who has them. For many threads."""

    def sign(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str],
        headers: Dict[str, str],
        check: Callable[[], None] = ...,
    ) -> SignedRequest:
        """Leave for one request about the object at ``path``, now.

        ``check`` is called now and then while this waits; what it raises ends it.
        """


class S3Requests:
    """Asks an S3 server, from as many threads as there are lanes, with a connection each."""

    def __init__(
        self, http: Http, signer: RequestSigner, lanes: Lanes, pause: Callable[[float], None]
    ) -> None:
        """``pause(seconds)`` waits before a further try; what it raises ends the tries."""
        self._model = http
        self._free: List[Http] = [http]
        self._request_signer = signer
        self._lanes = lanes
        self._pause = pause
        self._is_away = False
        """Whether the patience with the server is used up: what comes next is tried once."""

    def close(self) -> None:
        """Let go of the connections, none of which is in use."""
        while self._free:
            self._free.pop().close()

    def ask(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str],
        headers: Dict[str, str],
        body: Iterator[memoryview] | None = None,
    ) -> tuple[Dict[str, str], str]:
        """One short answer. Raises TransientError, NotFoundError and S3Error."""
        with self._connection() as http, _explained(path):
            return http.ask(method, self._leave(method, path, parameters, headers), body)

    @contextmanager
    def receive(
        self, path: str, headers: Dict[str, str]
    ) -> Iterator[tuple[str, int | None, Iterator[memoryview]]]:
        """The etag of an object, how many bytes come, if that is known, and they. Raises TransientError, NotFoundError and S3Error."""
        with self._connection() as http:
            with _explained(path):
                answer = http.open("GET", self._leave("GET", path, {}, headers))
            if "range" in headers and answer.status != _PARTIAL:
                # Servers and proxies may ignore it: what comes begins at the beginning.
                http.close()
                raise RangeIgnoredError("it came whole where the rest was asked for")
            with closing(http.pieces(answer)) as pieces:
                yield answer.getheader("etag") or "", answer.length, pieces

    def _leave(
        self, method: str, path: str, parameters: Mapping[str, str], headers: Dict[str, str]
    ) -> SignedRequest:
        if method == "DELETE":  # what is given up is cleared away all the same
            return self._request_signer.sign(method, path, parameters, headers)
        self._lanes.check()
        return self._request_signer.sign(method, path, parameters, headers, self._lanes.check)

    @contextmanager
    def _connection(self) -> Iterator[Http]:
        """A connection that nobody else uses."""
        try:
            http = self._free.pop()
        except IndexError:
            http = self._model.another()
        try:
            yield http
        finally:
            self._free.append(http)

    def persist(self, path: str, attempt: Callable[[Callable[[], None]], _T]) -> _T:
        """Try until it works, is refused, or made no progress for ``PATIENCE_SECONDS``.

        ``attempt`` is handed what it calls for each progress it makes. Raises S3Error and NotFoundError.
        """
        deadline, tries = 0.0, 0

        def progressed() -> None:
            nonlocal deadline, tries
            self._is_away = False
            self._lanes.check()
            deadline, tries = time.monotonic() + PATIENCE_SECONDS, 0

        if not self._is_away:
            progressed()
        while True:
            try:
                result = attempt(progressed)
            except TransientError as e:
                if time.monotonic() > deadline:
                    self._is_away = True
                    raise S3Error(
                        f"The object store could not be used for '{path}' for {PATIENCE_SECONDS:.0f} seconds "
                        f"({e}): submit the job again once it can"
                    ) from e
            else:
                self._is_away = False
                return result
            tries += 1
            most = min(MAX_PAUSE_SECONDS, 0.2 * 2 ** min(tries, 10))
            self.wait(random.uniform(most / 2, most))  # noqa: S311 - spreads load

    def wait(self, seconds: float) -> None:
        """Wait before a further try, unless nobody needs it any more."""
        self._pause(seconds)
        self._lanes.check()


class _explained:  # noqa: N801 - reads as a word of the language, as contextlib's do
    """Turns what HTTP says into what it means for an object."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ResponseError):
            raise meaning(error, self._path) from error
        if isinstance(error, UntrustedCertificateError):
            raise S3Error(
                f"The object store's certificate is not to be trusted: {error}"
            ) from error
