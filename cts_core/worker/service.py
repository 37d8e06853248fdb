"""What a worker on a node asks of the service, by the token of its container."""

from __future__ import annotations

import json
import random
import time
from typing import Any, Callable, Dict, List, Mapping
from urllib.parse import quote

from cts_core.worker.s3_refusals import S3Error
from cts_core.worker.transfer import Grant, Http, Passing, Refused, Untrusted

MAX_PAUSE_SECONDS = 600.0
"""The most between two tries."""
MAX_PLAN = 1 << 28
"""Bytes of a plan, which names every input of its container."""
_FIRST_PAUSE = 0.2
_BATCH = 100
"""Inputs whose leave is asked for at once; what is not used in time is asked for again."""
_GOOD_SECONDS = 300.0
"""For how long leave is used: well below the quarter of an hour that it is good for."""


class ServiceError(Exception):
    """The service was away for too long, or refuses; the text says so."""


class RefusalError(ServiceError):
    """The service refuses, and will go on to."""

    def __init__(self, text: str, appcode: int) -> None:
        super().__init__(text)
        self.appcode = appcode
        """Of the contract's table of errors."""


def backoff(tries: int, most: float) -> float:
    """Seconds to wait after so many tries; by chance, so that not all workers try again at once."""
    upper: float = min(most, _FIRST_PAUSE * 2 ** min(tries, 20))
    return random.uniform(upper / 2, upper)  # noqa: S311 - spreads load


class Service:
    """One container's door to the service. For one thread."""

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

    def plan(self) -> Dict[str, Any]:
        """What to do. Raises ServiceError."""
        found: Dict[str, Any] = self._ask("GET", "plan")
        return found

    def claim(self, process: str, run: int, worker: str) -> bool:
        """Whether the container is ours to run. Raises ServiceError."""
        said = {"process": process, "run": run, "worker": worker}
        return bool(self._ask("POST", "claim", said)["granted"])

    def update(self, state: str, said: Mapping[str, object]) -> None:
        """Say which state the container has reached. Raises ServiceError."""
        self._ask("PUT", f"update/{quote(state)}", said)

    def grants(self, requests: List[Dict[str, Any]]) -> List[Grant]:
        """Leave for requests to the object store. Raises ServiceError."""
        found = self._ask("POST", "objects", {"requests": requests})["requests"]
        return [Grant(one["url"], one["headers"]) for one in found]

    def _ask(self, method: str, what: str, said: Mapping[str, object] | None = None) -> Any:  # noqa: ANN401 - JSON
        deadline, tries = time.monotonic() + self._patience, 0
        while True:
            try:
                return self._try(method, what, said)
            except Untrusted as e:
                raise ServiceError(f"The service's certificate is not to be trusted: {e}") from e
            except (Passing, Refused) as e:
                why = _refusal(e) or str(e)
                if isinstance(why, RefusalError):
                    raise why from e
                if time.monotonic() >= deadline:
                    raise ServiceError(
                        f"The service could not be used for {self._patience:.0f} seconds ({what}: {why})"
                    ) from e
            tries += 1
            self._pause(backoff(tries, MAX_PAUSE_SECONDS))

    def _try(self, method: str, what: str, said: Mapping[str, object] | None) -> Any:  # noqa: ANN401 - JSON
        data = b"" if said is None else json.dumps(said).encode()
        headers = {"authorization": f"Bearer {self._token}", "content-length": str(len(data))}
        if data:
            headers["content-type"] = "application/json"
        body = iter([memoryview(data)]) if data else None
        _, text = self._http.ask(
            method, Grant(f"{self._url}/{what}", headers), body, limit=MAX_PLAN
        )
        try:
            return json.loads(text) if text else None
        except ValueError as e:
            # Somebody between us and the service.
            raise Passing("what came is no JSON") from e


class RemoteGrants:
    """Asks the service for leave; for the inputs, which are known beforehand, for many at once."""

    def __init__(self, service: Service, inputs: List[str]) -> None:
        self._service = service
        self._inputs = inputs
        self._places = {path: place for place, path in enumerate(inputs)}
        self._ready: Dict[str, Grant] = {}
        self._until = 0.0

    def grant(
        self, method: str, path: str, parameters: Mapping[str, str], headers: Dict[str, str]
    ) -> Grant:
        """Leave for one request. Raises S3Error."""
        asked = {"method": method, "path": path, "parameters": dict(parameters), "headers": headers}
        try:
            if method == "GET" and not parameters and not headers and path in self._places:
                return self._input(path)
            return self._service.grants([asked])[0]
        except ServiceError as e:
            raise S3Error(str(e)) from e

    def _input(self, path: str) -> Grant:
        if path not in self._ready or time.monotonic() > self._until:
            start = self._places[path]
            wanted = self._inputs[start : start + _BATCH]
            granted = self._service.grants([{"method": "GET", "path": one} for one in wanted])
            self._ready = dict(zip(wanted, granted))
            self._until = time.monotonic() + _GOOD_SECONDS
        # Used once: a further try may come late.
        return self._ready.pop(path)


def _refusal(error: Exception) -> RefusalError | None:
    """What is final: it has a code of the contract. Anything else may be a proxy's, or pass."""
    if isinstance(error, Refused):
        try:
            said = json.loads(error.text)["error"]
            return RefusalError(str(said["message"]), int(said["appcode"]))
        except (ValueError, KeyError, TypeError):
            pass
    return None
