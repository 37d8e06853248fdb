"""What a worker on a node asks of the service, by the token of its container."""

from __future__ import annotations

import json
import random
import threading
import time
from http import HTTPStatus
from typing import Any, Callable, Dict, List, Mapping, TypeVar
from urllib.parse import quote

from cts_core.worker.http.client import (
    Http,
    ResponseError,
    SignedRequest,
    TransientError,
    UntrustedCertificateError,
)
from cts_core.worker.plan import WorkerPlan
from cts_core.worker.s3.errors import S3Error

MAX_PAUSE_SECONDS = 600.0
"""The most between two tries."""
MAX_PLAN = 1 << 28
"""Bytes of a plan, which names every input of its container."""
_FIRST_PAUSE = 0.2
_BATCH = 100
"""Requests whose leave is asked for at once; what is asked for ahead and not used in time is asked for again."""
_GOOD_SECONDS = 300.0
"""For how long leave is used: well below the quarter of an hour that it is good for."""
_TICK_SECONDS = 0.2
"""Between two looks at whether what is waited for is still wanted."""

_NO_ANSWER = (ValueError, LookupError, TypeError, ArithmeticError, RecursionError)
"""What reading may raise that is JSON at most: of other fields and types, numbers past all bounds, endless depth."""

_Read = TypeVar("_Read")


class ServiceError(Exception):
    """The service was away for too long, or refuses; the text says so."""


class ServiceRefusedError(ServiceError):
    """The service refuses, and will go on to."""

    def __init__(self, text: str, appcode: int) -> None:
        super().__init__(text)
        self.appcode = appcode
        """Of the contract's table of errors; 0 where it has none."""


def backoff(tries: int, most: float) -> float:
    """Seconds to wait after so many tries; by chance, so that not all workers try again at once."""
    upper: float = min(most, _FIRST_PAUSE * 2 ** min(tries, 20))
    return random.uniform(upper / 2, upper)  # noqa: S311 - spreads load


class Service:
    """One container's door to the service. For one thread at a time."""

    def __init__(
        self,
        http: Http,
        url: str,
        token: str,
        *,
        patience: float,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """``url``: of the container's ``/node``; ``patience``: seconds for which it is tried, 0: once.

        ``pause(seconds)`` waits before a further try; what it raises ends the tries.
        """
        self._http = http
        self._url = url
        self._token = token
        self._patience = patience
        self._pause = pause
        self._is_away = False
        """Whether the patience is used up: what comes next is tried once."""

    def plan(self) -> WorkerPlan:
        """What to do. Raises ServiceError."""
        return self._ask("GET", "plan", WorkerPlan.from_json)

    def claim(self, process: str, run: int, worker: str) -> bool:
        """Whether the container is ours to run. Raises ServiceError."""
        said = {"process": process, "run": run, "worker": worker}
        return self._ask("POST", "claim", _granted, said)

    def update(self, state: str, said: Mapping[str, object]) -> None:
        """Say which state the container has reached. Raises ServiceError."""
        self._ask("PUT", f"update/{quote(state)}", _nothing, said)

    def sign_requests(
        self, requests: List[Dict[str, Any]], check: Callable[[], None] | None = None
    ) -> List[SignedRequest]:
        """Leave for requests to the object store, for each. Raises ServiceError.

        ``check`` is called now and then between two tries; what it raises ends them.
        """
        found = self._ask("POST", "objects", _leaves, {"requests": requests}, check)
        if len(found) != len(requests):
            raise ServiceError(
                f"The service was asked for {len(requests)} leaves and gave {len(found)}"
            )
        return found

    def _ask(
        self,
        method: str,
        what: str,
        read: Callable[[Any], _Read],
        said: Mapping[str, object] | None = None,
        check: Callable[[], None] | None = None,
    ) -> _Read:
        deadline, tries = time.monotonic() + (0 if self._is_away else self._patience), 0
        while True:
            try:
                answer = self._try(method, what, read, said)
            except UntrustedCertificateError as e:
                raise ServiceError(f"The service's certificate is not to be trusted: {e}") from e
            except (TransientError, ResponseError) as e:
                why = _refusal(e) or str(e)
                if isinstance(why, ServiceRefusedError):
                    raise why from e
                if time.monotonic() >= deadline:
                    self._is_away = True
                    tried = f"tried {tries + 1} times" if tries else "tried once"
                    raise ServiceError(
                        f"The service could not be used, {tried} ({what}: {why})"
                    ) from e
            else:
                self._is_away = False
                return answer
            tries += 1
            self._wait(backoff(tries, MAX_PAUSE_SECONDS), check)

    def _wait(self, seconds: float, check: Callable[[], None] | None) -> None:
        if check is None:
            self._pause(seconds)
            return
        while seconds > 0:
            check()
            self._pause(min(seconds, _TICK_SECONDS))
            seconds -= _TICK_SECONDS

    def _try(
        self,
        method: str,
        what: str,
        read: Callable[[Any], _Read],
        said: Mapping[str, object] | None,
    ) -> _Read:
        data = b"" if said is None else json.dumps(said).encode()
        headers = {"authorization": f"Bearer {self._token}", "content-length": str(len(data))}
        if data:
            headers["content-type"] = "application/json"
        body = iter([memoryview(data)]) if data else None
        _, text = self._http.ask(
            method, SignedRequest(f"{self._url}/{what}", headers), body, limit=MAX_PLAN
        )
        try:
            return read(json.loads(text) if text else None)
        except _NO_ANSWER as e:
            # Somebody between us and the service.
            raise TransientError("what came is no answer of CTS") from e


def _granted(answer: Any) -> bool:  # noqa: ANN401 - JSON
    granted = answer["granted"]
    if isinstance(granted, bool):
        return granted
    raise TypeError


def _leaves(answer: Any) -> List[SignedRequest]:  # noqa: ANN401 - JSON
    return [
        SignedRequest(
            _text(one["url"]),
            {_text(name): _text(value) for name, value in {**one["headers"]}.items()},
        )
        for one in answer["requests"]
    ]


def _text(value: Any) -> str:  # noqa: ANN401 - JSON
    if isinstance(value, str):
        return value
    raise TypeError


def _nothing(answer: Any) -> None:  # noqa: ANN401 - JSON
    if answer is not None:
        raise TypeError


class _Wanted:
    """What one thread waits for."""

    def __init__(self, request: Dict[str, Any], *, is_input: bool) -> None:
        self.request = request
        self.is_input = is_input
        """Whether it is to read one of the inputs, whole."""
        self.leave: SignedRequest | None = None
        self.error: ServiceError | None = None

    @property
    def path(self) -> str:
        """Of the object."""
        return str(self.request["path"])


class RemoteSigner:
    """Asks the service for leave, for many threads: what they want while a question is under way, goes with the next one.

    Inputs, which are known beforehand, are asked for ahead.
    """

    def __init__(self, service: Service, inputs: List[str]) -> None:
        self._service = service
        self._inputs = inputs
        self._places = {path: place for place, path in enumerate(inputs)}
        self._changed = threading.Condition()
        self._waiting: List[_Wanted] = []
        self._is_asking = False
        """Whether some thread does."""
        self._ready: Dict[str, SignedRequest] = {}
        """For the inputs that were asked for ahead last."""
        self._until = 0.0

    def sign(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str],
        headers: Dict[str, str],
        check: Callable[[], None] | None = None,
    ) -> SignedRequest:
        """Leave for one request. Raises S3Error, and what ``check`` raises, which is called while this waits."""
        asked = {"method": method, "path": path, "parameters": dict(parameters), "headers": headers}
        is_input = method == "GET" and not parameters and not headers and path in self._places
        own = _Wanted(asked, is_input=is_input)
        with self._changed:
            self._waiting.append(own)
        try:
            while own.leave is None:
                if check is not None:
                    check()
                if own.error is not None:
                    raise S3Error(str(own.error)) from own.error
                self._go_on(own, check)
        finally:
            with self._changed:
                self._waiting.remove(own)
        return own.leave

    def _go_on(self, own: _Wanted, check: Callable[[], None] | None) -> None:
        """Ask for all that waits, or wait a little for who does."""
        with self._changed:
            if self._is_asking and not self._settle(own):
                self._changed.wait(_TICK_SECONDS)
            if self._is_asking or self._settle(own):
                return
            self._is_asking = True
            together = [one for one in self._waiting if not self._settle(one)][:_BATCH]
        try:
            self._ask(together, self._ahead_of(together), check)
        finally:
            with self._changed:
                self._is_asking = False
                self._changed.notify_all()

    def _settle(self, wanted: _Wanted) -> bool:
        """Whether it waits no more; what was asked for ahead is handed out here."""
        if wanted.is_input and wanted.leave is None and time.monotonic() <= self._until:
            # Used once: a further try may come late.
            wanted.leave = self._ready.pop(wanted.path, None)
        return wanted.leave is not None or wanted.error is not None

    def _ahead_of(self, wanted: List[_Wanted]) -> List[str]:
        """The inputs that will be wanted next, as many as there is room for."""
        places = [self._places[one.path] for one in wanted if one.is_input]
        if not places:
            return []
        start = max(places) + 1
        return self._inputs[start : start + _BATCH - len(wanted)]

    def _ask(
        self, wanted: List[_Wanted], ahead: List[str], check: Callable[[], None] | None
    ) -> None:
        """Settle each. Raises what ends the tries of this thread alone."""
        requests = [one.request for one in wanted]
        requests += [{"method": "GET", "path": path} for path in ahead]
        try:
            granted = self._service.sign_requests(requests, check)
        except ServiceRefusedError as e:
            if len(requests) > 1:
                # It does not say of which: each is asked for alone.
                for one in wanted:
                    self._ask([one], [], check)
            else:
                wanted[0].error = e
        except ServiceError as e:
            for one in wanted:
                one.error = e
        else:
            with self._changed:
                for one, leave in zip(wanted, granted):
                    one.leave = leave
                if ahead:
                    self._ready = dict(zip(ahead, granted[len(wanted) :]))
                    self._until = time.monotonic() + _GOOD_SECONDS


def _refusal(error: Exception) -> ServiceRefusedError | None:
    """What is final: it has a code of the contract, or is too large. Anything else may be a proxy's, or pass."""
    if isinstance(error, ResponseError):
        try:
            said = json.loads(error.text)["error"]
            return ServiceRefusedError(str(said["message"]), int(said["appcode"]))
        except _NO_ANSWER:
            pass
        if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return ServiceRefusedError(
                "it is more than the service, or a proxy before it, takes", 0
            )
    return None
