"""The client of the service's API for workers on nodes, authenticated by the container's token."""

from __future__ import annotations

import json
import threading
import time
from http import HTTPStatus
from typing import Any, Callable, Dict, List, Mapping, TypeVar
from urllib.parse import quote

from cts_core.worker.backoff import random_delay
from cts_core.worker.http.client import (
    HttpClient,
    ResponseError,
    SignedRequest,
    TransientError,
    UntrustedCertificateError,
)
from cts_core.worker.plan import WorkerPlan
from cts_core.worker.s3.errors import S3Error

MAX_DELAY_SECONDS = 600.0
"""The longest delay between two tries."""
MAX_PLAN = 1 << 28
"""Bytes of a plan, which names every input of its container."""
_FIRST_DELAY_SECONDS = 0.2
_BATCH = 100
"""The most requests that are signed at once; prefetched ones that are not used in time are signed again."""
_REUSE_SECONDS = 300.0
"""Seconds for which prefetched signed requests are used: well below the quarter of an hour for which they are valid."""
_TICK_SECONDS = 0.2
"""The interval between calls of ``check`` during a wait."""

_INVALID_RESPONSE = (ValueError, LookupError, TypeError, ArithmeticError, RecursionError)
"""The exceptions that parsing an invalid response may raise: no JSON, other fields, huge numbers, deep nesting."""

_Read = TypeVar("_Read")


class ServiceError(Exception):
    """The service was unavailable for too long, or refuses; the text says so."""


class ServiceRefusedError(ServiceError):
    """The service refuses permanently."""

    def __init__(self, text: str, appcode: int) -> None:
        super().__init__(text)
        self.appcode = appcode
        """From the contract's table of errors; 0 where it has none."""


def retry_delay(tries: int, longest: float) -> float:
    """Return the seconds to wait after so many tries."""
    return random_delay(tries, first=_FIRST_DELAY_SECONDS, longest=longest)


class ApiClient:
    """Calls the service on behalf of one container. For one thread at a time."""

    def __init__(
        self,
        http: HttpClient,
        url: str,
        token: str,
        worker: str,
        *,
        retry_timeout: float,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``url``: of the container's ``/node``; ``retry_timeout``: seconds for which a call is retried, 0: not at all.

        ``worker`` is the id with which this worker claims the container.

        ``sleep(seconds)`` waits before a retry; what it raises ends the retries.
        """
        self._http = http
        self._url = url
        self._token = token
        self._worker = worker
        self._retry_timeout = retry_timeout
        self._sleep = sleep
        self._is_given_up = False
        """Whether the retries of an earlier call were exhausted: later ones are tried once."""

    def plan(self) -> WorkerPlan:
        """Return the container's plan. Raises ServiceError."""
        return self._request("GET", "plan", WorkerPlan.from_json)

    def claim(self, process: str, run: int) -> bool:
        """Claim the container; return whether the claim was granted. Raises ServiceError."""
        fields = {"process": process, "run": run, "worker": self._worker}
        return self._request("POST", "claim", _read_granted, fields)

    def update(self, state: str, fields: Mapping[str, object]) -> None:
        """Report the state that the container has reached. Raises ServiceError."""
        self._request("PUT", f"update/{quote(state)}", _read_nothing, fields)

    def sign_requests(
        self, requests: List[Dict[str, Any]], check: Callable[[], None] | None = None
    ) -> List[SignedRequest]:
        """Return a signed request to the object store for each given one. Raises ServiceError.

        ``check`` is called now and then between two tries; what it raises ends the retries.
        """
        signed = self._request(
            "POST", "objects", _read_signed_requests, {"requests": requests}, check
        )
        if len(signed) != len(requests):
            raise ServiceError(
                f"The service was asked for {len(requests)} signed requests and gave {len(signed)}"
            )
        return signed

    def _request(
        self,
        method: str,
        endpoint: str,
        read: Callable[[Any], _Read],
        fields: Mapping[str, object] | None = None,
        check: Callable[[], None] | None = None,
    ) -> _Read:
        deadline, tries = time.monotonic() + (0 if self._is_given_up else self._retry_timeout), 0
        while True:
            try:
                response = self._send(method, endpoint, read, fields)
            except UntrustedCertificateError as e:
                raise ServiceError(f"The service's certificate is not to be trusted: {e}") from e
            except (TransientError, ResponseError) as e:
                reason = _to_refusal(e) or str(e)
                if isinstance(reason, ServiceRefusedError):
                    raise reason from e
                if time.monotonic() >= deadline:
                    self._is_given_up = True
                    tried = f"tried {tries + 1} times" if tries else "tried once"
                    raise ServiceError(
                        f"The service could not be used, {tried} ({endpoint}: {reason})"
                    ) from e
            else:
                self._is_given_up = False
                return response
            tries += 1
            self._wait(retry_delay(tries, MAX_DELAY_SECONDS), check)

    def _wait(self, seconds: float, check: Callable[[], None] | None) -> None:
        if check is None:
            self._sleep(seconds)
            return
        while seconds > 0:
            check()
            self._sleep(min(seconds, _TICK_SECONDS))
            seconds -= _TICK_SECONDS

    def _send(
        self,
        method: str,
        endpoint: str,
        read: Callable[[Any], _Read],
        fields: Mapping[str, object] | None,
    ) -> _Read:
        data = b"" if fields is None else json.dumps(fields).encode()
        headers = {
            "authorization": f"Bearer {self._token}",
            "cts-worker": self._worker,
            "content-length": str(len(data)),
        }
        if data:
            headers["content-type"] = "application/json"
        body = iter([memoryview(data)]) if data else None
        _, text = self._http.request(
            method, SignedRequest(f"{self._url}/{endpoint}", headers), body, limit=MAX_PLAN
        )
        try:
            return read(json.loads(text) if text else None)
        except _INVALID_RESPONSE as e:
            # From a proxy between the worker and the service.
            raise TransientError("what came is no answer of CTS") from e


def _read_granted(response: Any) -> bool:  # noqa: ANN401 - JSON
    granted = response["granted"]
    if isinstance(granted, bool):
        return granted
    raise TypeError


def _read_signed_requests(response: Any) -> List[SignedRequest]:  # noqa: ANN401 - JSON
    return [
        SignedRequest(
            _checked_text(one["url"]),
            {
                _checked_text(name): _checked_text(value)
                for name, value in {**one["headers"]}.items()
            },
        )
        for one in response["requests"]
    ]


def _checked_text(value: Any) -> str:  # noqa: ANN401 - JSON
    if isinstance(value, str):
        return value
    raise TypeError


def _read_nothing(response: Any) -> None:  # noqa: ANN401 - JSON
    if response is not None:
        raise TypeError


class _PendingRequest:
    """A request that one thread waits to have signed."""

    def __init__(self, request: Dict[str, Any], *, is_input: bool) -> None:
        self.request = request
        self.is_input = is_input
        """Whether it reads a whole input."""
        self.signed: SignedRequest | None = None
        self.error: ServiceError | None = None

    @property
    def path(self) -> str:
        """The object's path."""
        return str(self.request["path"])


class RemoteSigner:
    """Has requests signed by the service. Thread-safe: requests that come during one call are batched in the next.

    Requests for inputs, which are known beforehand, are prefetched.
    """

    def __init__(self, client: ApiClient, inputs: List[str]) -> None:
        self._client = client
        self._inputs = inputs
        self._positions = {path: position for position, path in enumerate(inputs)}
        self._changed = threading.Condition()
        self._waiting: List[_PendingRequest] = []
        self._is_calling = False
        """Whether a thread is calling the service."""
        self._ready: Dict[str, SignedRequest] = {}
        """The requests prefetched last, by the paths of their inputs."""
        self._ready_until = 0.0

    def sign(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str],
        headers: Dict[str, str],
        check: Callable[[], None] | None = None,
    ) -> SignedRequest:
        """Return one signed request. Raises S3Error, and what ``check`` raises, which is called during the wait."""
        request = {
            "method": method,
            "path": path,
            "parameters": dict(parameters),
            "headers": headers,
        }
        is_input = method == "GET" and not parameters and not headers and path in self._positions
        own = _PendingRequest(request, is_input=is_input)
        with self._changed:
            self._waiting.append(own)
        try:
            while own.signed is None:
                if check is not None:
                    check()
                if own.error is not None:
                    raise S3Error(str(own.error)) from own.error
                self._step(own, check)
        finally:
            with self._changed:
                self._waiting.remove(own)
        return own.signed

    def _step(self, own: _PendingRequest, check: Callable[[], None] | None) -> None:
        """Have all pending requests signed, or wait a little for the thread that does."""
        with self._changed:
            if self._is_calling and not self._is_resolved(own):
                self._changed.wait(_TICK_SECONDS)
            if self._is_calling or self._is_resolved(own):
                return
            self._is_calling = True
            batch = [one for one in self._waiting if not self._is_resolved(one)][:_BATCH]
        try:
            self._request(batch, self._prefetch_for(batch), check)
        finally:
            with self._changed:
                self._is_calling = False
                self._changed.notify_all()

    def _is_resolved(self, pending: _PendingRequest) -> bool:
        """Return whether a request is signed or has failed; assigns prefetched requests."""
        if pending.is_input and pending.signed is None and time.monotonic() <= self._ready_until:
            # Used once: a retry may come after it expired.
            pending.signed = self._ready.pop(pending.path, None)
        return pending.signed is not None or pending.error is not None

    def _prefetch_for(self, pending: List[_PendingRequest]) -> List[str]:
        """Return the inputs that will be fetched next, as many as fit in the batch."""
        positions = [self._positions[one.path] for one in pending if one.is_input]
        if not positions:
            return []
        start = max(positions) + 1
        return self._inputs[start : start + _BATCH - len(pending)]

    def _request(
        self,
        pending: List[_PendingRequest],
        prefetched: List[str],
        check: Callable[[], None] | None,
    ) -> None:
        """Set the result of each pending request. Raises what ``check`` raises, which concerns this thread only."""
        requests = [one.request for one in pending]
        requests += [{"method": "GET", "path": path} for path in prefetched]
        try:
            signed_requests = self._client.sign_requests(requests, check)
        except ServiceRefusedError as e:
            if len(requests) > 1:
                # The error does not say which request it is about, so each is sent alone.
                for one in pending:
                    self._request([one], [], check)
            else:
                pending[0].error = e
        except ServiceError as e:
            for one in pending:
                one.error = e
        else:
            with self._changed:
                for one, signed in zip(pending, signed_requests):
                    one.signed = signed
                if prefetched:
                    self._ready = dict(zip(prefetched, signed_requests[len(pending) :]))
                    self._ready_until = time.monotonic() + _REUSE_SECONDS


def _to_refusal(error: Exception) -> ServiceRefusedError | None:
    """Return a permanent error, which has a code of the contract or status 413; None for others, which a proxy may cause."""
    if isinstance(error, ResponseError):
        try:
            fields = json.loads(error.text)["error"]
            return ServiceRefusedError(str(fields["message"]), int(fields["appcode"]))
        except _INVALID_RESPONSE:
            pass
        if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return ServiceRefusedError(
                "it is more than the service, or a proxy before it, takes", 0
            )
    return None
