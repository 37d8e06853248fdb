"""Requests to an S3 server about one object, retried where that may help.

They are permitted by a RequestSigner. Transient failures, such as a server that is down, are retried for a long time:
a container that has run should not be lost because its outputs could not be stored for some minutes.
"""

from __future__ import annotations

import time
from contextlib import closing, contextmanager
from typing import Callable, Dict, Iterator, List, Mapping, Protocol, TypeVar

from cts_core.worker.backoff import random_delay
from cts_core.worker.http.client import (
    HttpClient,
    ResponseError,
    SignedRequest,
    TransientError,
    UntrustedCertificateError,
)
from cts_core.worker.parallel import ParallelMap
from cts_core.worker.s3.errors import RangeIgnoredError, S3Error, to_error

RETRY_SECONDS = 900.0
"""Seconds for which an object is tried without any progress."""
MAX_DELAY_SECONDS = 10.0
"""The longest delay between two tries."""
_FIRST_DELAY_SECONDS = 0.2

_PARTIAL = 206
_T = TypeVar("_T")


class RequestSigner(Protocol):
    """Signs requests: with keys, or by asking the service, which has them. Thread-safe."""

    def sign(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str],
        headers: Dict[str, str],
        check: Callable[[], None] = ...,
    ) -> SignedRequest:
        """Return a signed request about the object at ``path``, valid from now on.

        ``check`` is called now and then while this waits; what it raises ends the wait.
        """


class S3Requests:
    """Sends requests to an S3 server, from as many threads as ``parallel`` has, over one connection each."""

    def __init__(
        self,
        http: HttpClient,
        signer: RequestSigner,
        parallel: ParallelMap,
        sleep: Callable[[float], None],
    ) -> None:
        """``sleep(seconds)`` waits before a retry; what it raises ends the retries."""
        self._template = http
        self._idle: List[HttpClient] = [http]
        self._request_signer = signer
        self._parallel = parallel
        self._sleep = sleep
        self._is_given_up = False
        """Whether the retries of an earlier request were exhausted: later ones are tried once."""

    def close(self) -> None:
        """Close the connections, none of which is in use."""
        while self._idle:
            self._idle.pop().close()

    def request(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str],
        headers: Dict[str, str],
        body: Iterator[memoryview] | None = None,
    ) -> tuple[Dict[str, str], str]:
        """Return the headers and text of a short response. Raises TransientError, NotFoundError and S3Error."""
        with self._connection() as http, translated_errors(path, method):
            return http.request(method, self._sign(method, path, parameters, headers), body)

    @contextmanager
    def receive(
        self, path: str, headers: Dict[str, str]
    ) -> Iterator[tuple[str, int | None, Iterator[memoryview]]]:
        """Yield an object's etag, the number of bytes to come, if known, and the chunks.

        Raises TransientError, NotFoundError and S3Error.
        """
        with self._connection() as http:
            with translated_errors(path, "GET"):
                response = http.open("GET", self._sign("GET", path, {}, headers))
            if "range" in headers and response.status != _PARTIAL:
                # Servers and proxies may ignore the Range header: the response starts at byte 0.
                http.close()
                raise RangeIgnoredError("it came whole where the rest was asked for")
            with closing(http.chunks(response)) as chunks:
                yield response.getheader("etag") or "", response.length, chunks

    def _sign(
        self, method: str, path: str, parameters: Mapping[str, str], headers: Dict[str, str]
    ) -> SignedRequest:
        if method == "DELETE":  # an abandoned upload is removed all the same
            return self._request_signer.sign(method, path, parameters, headers)
        self._parallel.check()
        return self._request_signer.sign(method, path, parameters, headers, self._parallel.check)

    @contextmanager
    def _connection(self) -> Iterator[HttpClient]:
        """Yield a connection that no other thread uses."""
        try:
            http = self._idle.pop()
        except IndexError:
            http = self._template.clone()
        try:
            yield http
        finally:
            self._idle.append(http)

    def retry(self, path: str, attempt: Callable[[Callable[[], None]], _T]) -> _T:
        """Try until it succeeds, is rejected, or has made no progress for ``RETRY_SECONDS``.

        ``attempt`` receives a function to call after each progress. Raises S3Error and NotFoundError.
        """
        deadline, tries = 0.0, 0

        def on_progress() -> None:
            nonlocal deadline, tries
            self._is_given_up = False
            self._parallel.check()
            deadline, tries = time.monotonic() + RETRY_SECONDS, 0

        if not self._is_given_up:
            on_progress()
        while True:
            try:
                result = attempt(on_progress)
            except TransientError as e:
                if time.monotonic() > deadline:
                    self._is_given_up = True
                    raise S3Error(
                        f"The object store could not be used for '{path}' for {RETRY_SECONDS:.0f} seconds "
                        f"({e}): submit the job again once it can"
                    ) from e
            else:
                self._is_given_up = False
                return result
            tries += 1
            self.wait(random_delay(tries, first=_FIRST_DELAY_SECONDS, longest=MAX_DELAY_SECONDS))

    def wait(self, seconds: float) -> None:
        """Wait before a retry. Raises AbandonedError, and what ``sleep`` and ``check`` raise."""
        self._sleep(seconds)
        self._parallel.check()


@contextmanager
def translated_errors(path: str, method: str) -> Iterator[None]:
    """Translate the errors of an HTTP request to what they mean for the object at ``path``."""
    try:
        yield
    except ResponseError as e:
        raise to_error(e, path, method) from e
    except UntrustedCertificateError as e:
        raise S3Error(f"The object store's certificate is not to be trusted: {e}") from e
