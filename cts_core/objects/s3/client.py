"""Requests to S3 by botocore, behind a bounded pool of threads, tried again where that may help."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import random
import warnings
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.httpsession import get_cert_path
from botocore.session import Session
from urllib3.exceptions import InsecureRequestWarning

from cts_core.config.sections import S3Settings
from cts_core.errors import UnavailableError
from cts_core.object_paths import split_path
from cts_core.objects.s3.errors import ConditionError, PassingError, translate, unavailable

THREADS = 16
"""Requests by botocore that go on at once."""
TRIES = 4
"""Requests made for one, while what hinders them may pass."""
PAUSE_SECONDS = 0.2
"""The most before the second try; twice as much before each further one."""

_T = TypeVar("_T")

for _name in ("botocore", "urllib3"):
    # At DEBUG they log signatures and presigned URLs.
    logging.getLogger(_name).setLevel(logging.INFO)


async def persist(path: str, attempt: Callable[[int], Awaitable[_T]]) -> _T:
    """Try up to ``TRIES`` times, with longer and longer random pauses.

    ``attempt`` gets the number of its try, from 1. Raises UnavailableError when none succeeded.
    """
    number = 1
    while True:
        try:
            return await attempt(number)
        except PassingError as e:
            if number == TRIES:
                raise unavailable(path, e) from e
        await pause(number)
        number += 1


async def pause(tries: int) -> None:
    """Wait a random while after this many tries."""
    await asyncio.sleep(random.uniform(0, PAUSE_SECONDS * 2**tries))  # noqa: S311 - spreads load


def trust(*, insecure: bool) -> str | bool:
    """The file with the certificates to trust, or False to accept any."""
    return False if insecure else os.environ.get("SSL_CERT_FILE") or str(get_cert_path(verify=True))


def make_client(settings: S3Settings, url: str, *, insecure: bool) -> Any:  # noqa: ANN401 - botocore has no types
    """A client for ``url``. Of the machine's own AWS settings and proxies it uses nothing. Takes a while."""
    nowhere = (None, None, os.devnull, None)
    session = Session(
        session_vars={
            "profile": (None, [], None, None),
            "config_file": nowhere,
            "credentials_file": nowhere,
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
            # We give each upload its checksum, and check what we read before it is handed on.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    client.meta.events.register_last("before-parameter-build.s3", _stay)
    return client


def _stay(context: dict[str, Any], **_: object) -> None:
    """Have botocore follow no redirect to another region, which it does to servers not set up and without end."""
    context["s3_redirect"] = {"redirected": True}


class Api:
    """A botocore client whose requests run in a pool of ``THREADS`` threads."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="cts-s3")
        self._client: Any = None

    async def open(self) -> None:
        """Make the client. No request is made yet."""
        settings = self._settings
        make = functools.partial(
            make_client, settings, settings.url, insecure=settings.allow_insecure
        )
        self._client = await self.run(make)

    async def close(self) -> None:
        """Let go of connections and threads."""
        if self._client is not None:
            self._client.close()
        await asyncio.to_thread(self._pool.shutdown)

    def submit(self, function: Callable[[], _T]) -> Future[_T]:
        """Run something that blocks in the pool."""
        try:
            return self._pool.submit(function)
        except RuntimeError as e:
            raise UnavailableError("The object store is closed: try again") from e

    async def run(self, function: Callable[[], _T]) -> _T:
        """Run something that blocks in the pool, and wait for it."""
        return await asyncio.wrap_future(self.submit(function))

    async def call(
        self, operation: str, path: str, *, writing: bool = False, **parameters: object
    ) -> Mapping[str, Any]:
        """One request about the object, or the bucket, at ``path``, by botocore's name for it.

        Raises what ``s3_errors.translate`` makes of an error; what may pass is tried again.
        """
        bucket, key = split_path(path)
        if key and not operation.startswith("list_"):
            parameters["Key"] = key
        request = functools.partial(getattr(self._client, operation), Bucket=bucket, **parameters)

        async def attempt(number: int) -> Mapping[str, Any]:
            answer: Future[Mapping[str, Any]] = self.submit(request)
            try:
                return await asyncio.wrap_future(answer)
            except asyncio.CancelledError:
                answer.add_done_callback(_discard)
                raise
            except (ClientError, BotoCoreError) as e:
                error = translate(e, path, writing=writing)
                if isinstance(error, ConditionError):
                    error.tries = number
                raise error from e

        return await persist(path, attempt)


def _discard(answer: Future[Mapping[str, Any]]) -> None:
    """Close the body of an answer that nobody waits for any more."""
    if not answer.cancelled() and answer.exception() is None and "Body" in answer.result():
        answer.result()["Body"].close()
