"""Requests to S3 by botocore in a bounded pool of threads, with retries of transient errors."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import time
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.httpsession import get_cert_path
from botocore.session import Session
from urllib3.exceptions import InsecureRequestWarning

from cts_core.backoff import Backoff
from cts_core.config.sections import S3Settings
from cts_core.errors import UnavailableError
from cts_core.object_paths import split_path
from cts_core.objects.s3.errors import (
    ConditionError,
    TransientError,
    silent,
    translate,
    unavailable,
)

THREADS = 16
"""Concurrent requests by botocore."""
TRIES = 4
"""The most attempts at one request while its errors are transient."""
FIRST_DELAY_SECONDS = 0.4
"""The longest random delay before the second attempt; it doubles before each further one."""

_T = TypeVar("_T")

for _name in ("botocore", "urllib3"):
    # At DEBUG they log signatures and presigned URLs.
    logging.getLogger(_name).setLevel(logging.INFO)


async def retry(path: str, attempt: Callable[[int], Awaitable[_T]], *, seconds: float) -> _T:
    """Await ``attempt`` up to ``TRIES`` times, until it raises no TransientError; begin none after so many seconds.

    It gets the number of the attempt, from 1. Raises UnavailableError when none succeeded.
    """
    number = 1
    until = time.monotonic() + seconds
    while True:
        try:
            return await attempt(number)
        except TransientError as e:
            if number == TRIES or time.monotonic() >= until:
                raise unavailable(path, e) from e
        await back_off(number)
        number += 1


async def back_off(failures: int) -> None:
    """Sleep for a random delay whose bound doubles with each failure in a row."""
    await asyncio.sleep(Backoff(FIRST_DELAY_SECONDS, jitter=1.0).delay(failures))


def trust(*, insecure: bool) -> str | bool:
    """Return the file with the trusted certificates, or False to accept any."""
    return False if insecure else os.environ.get("SSL_CERT_FILE") or str(get_cert_path(verify=True))


def make_client(settings: S3Settings, url: str, *, insecure: bool) -> Any:  # noqa: ANN401 - botocore has no types
    """Return a client for ``url`` that ignores the machine's own AWS settings and proxies. Blocks for a while."""
    unset = (None, None, os.devnull, None)
    session = Session(
        session_vars={
            "profile": (None, [], None, None),
            "config_file": unset,
            "credentials_file": unset,
        }
    )
    if insecure:
        warnings.filterwarnings("ignore", category=InsecureRequestWarning)
    client = session.create_client(
        "s3",
        region_name=settings.region,
        endpoint_url=url,
        verify=trust(insecure=insecure),
        aws_access_key_id=settings.access_key,
        aws_secret_access_key=settings.access_secret.get_secret_value(),
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            proxies={},
            connect_timeout=settings.timeout_s,
            read_timeout=settings.timeout_s,
            max_pool_connections=THREADS,
            retries={"total_max_attempts": 1, "mode": "standard"},
            # The callers give each upload its checksum, and check what is read.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    client.meta.events.register_last("before-parameter-build.s3", _disable_redirects)
    return client


def _disable_redirects(context: dict[str, Any], **_: object) -> None:
    """Keep botocore from redirecting to another region: it would try servers that are not configured, without end."""
    context["s3_redirect"] = {"redirected": True}


class Api:
    """A botocore client whose requests run in a pool of ``THREADS`` threads."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="cts-s3")
        self._client: Any = None
        self._running: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Create the client, without a request."""
        settings = self._settings
        make = functools.partial(
            make_client, settings, settings.url, insecure=settings.allow_insecure
        )
        self._client = await self.run(make)

    async def close(self) -> None:
        """Close the connections and end the threads."""
        if self._client is not None:
            self._client.close()
        await asyncio.to_thread(self._pool.shutdown)

    def submit(self, function: Callable[[], _T]) -> Future[_T]:
        """Run a blocking function in the pool."""
        try:
            return self._pool.submit(function)
        except RuntimeError as e:
            raise UnavailableError("The object store is closed: try again") from e

    async def run(self, function: Callable[[], _T]) -> _T:
        """Run a blocking function in the pool, and wait for it."""
        return await asyncio.wrap_future(self.submit(function))

    def run_on(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something to its end, whether or not its caller waits for it."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def result_of(self, work: Future[_T], path: str) -> _T:
        """Wait for what was submitted. Raises UnavailableError if no thread had time for it."""
        waiting = asyncio.wrap_future(work)
        try:
            await asyncio.wait({waiting}, timeout=self._settings.timeout_s)
        except asyncio.CancelledError:
            waiting.cancel()
            raise
        # What a thread has begun, ends by the timeouts of its connection.
        if not waiting.done() and work.cancel():
            raise silent(path, "too many requests wait for it")
        return await waiting

    async def call(
        self, operation: str, path: str, *, writing: bool = False, **parameters: object
    ) -> Mapping[str, Any]:
        """Make a request for the object, or the bucket, at ``path``, or without one for the store; ``operation`` is botocore's name for it.

        Transient errors are retried. Raises what ``errors.translate`` returns for others.
        """
        bucket, key = split_path(path)
        if bucket:
            parameters["Bucket"] = bucket
        if key and not operation.startswith("list_"):
            parameters["Key"] = key
        request = functools.partial(getattr(self._client, operation), **parameters)

        async def attempt(number: int) -> Mapping[str, Any]:
            response: Future[Mapping[str, Any]] = self.submit(request)
            try:
                return await self.result_of(response, path)
            except asyncio.CancelledError:
                response.add_done_callback(_discard)
                raise
            except (ClientError, BotoCoreError) as e:
                error = translate(e, path, writing=writing)
                if isinstance(error, ConditionError):
                    error.tries = number
                try:
                    raise error from e
                finally:
                    # With the error, which refers to this frame, the request's body would stay until garbage is collected.
                    del error

        return await retry(path, attempt, seconds=self._settings.timeout_s)


def _discard(response: Future[Mapping[str, Any]]) -> None:
    """Close the body of a response whose caller was cancelled."""
    if not response.cancelled() and response.exception() is None and "Body" in response.result():
        response.result()["Body"].close()
