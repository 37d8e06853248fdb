"""What keeps jobs waiting beyond their site: what servers recorded, and whether the object store can be used from here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from cts_core.errors import ConfigError, CTSError
from cts_core.model.record import JobSummary, JobWait
from cts_jupyter import formatting

if TYPE_CHECKING:
    from cts_core.config.settings import Settings

OBJECTS_SECONDS = 10.0
"""How long the object store may take to answer."""
_REQUEST_SECONDS = 3.0
"""How long it may stay silent at one request, at which a command waits when it ends."""


async def objects_trouble(settings: Settings) -> str | None:
    """Return why the object store cannot be used from here, or None."""
    from cts_core.engine import adapters  # noqa: PLC0415 - slow to import
    from cts_core.observability.health import object_store_dependency  # noqa: PLC0415 - as above

    seconds = min(settings.s3.timeout_s, _REQUEST_SECONDS)
    s3 = settings.s3.model_copy(update={"timeout_s": seconds})
    objects = adapters.object_store(settings.model_copy(update={"s3": s3}))
    probe = object_store_dependency(settings, objects).probe
    try:
        async with asyncio.timeout(OBJECTS_SECONDS):
            await objects.open()
            try:
                if probe is not None:
                    await probe()
            finally:
                await objects.close()
    except TimeoutError:
        return "it does not answer"
    except (ConfigError, CTSError) as e:
        return str(e)
    return None


def describe_wait(wait: JobWait, now: datetime) -> str:
    """Return what a job waits for, since when, and the last error."""
    from cts_core.observability.instrument import describe_port  # noqa: PLC0415 - slow to import

    since = formatting.format_duration(now - wait.since)
    return (
        f"{describe_port(wait.dependency)} since {formatting.format_time(wait.since)} ({since}), "
        f"whose last error was: {wait.error}"
    )


def describe_waits(jobs: Iterable[JobSummary], now: datetime) -> Iterator[str]:
    """Yield a sentence for each dependency that jobs wait for."""
    waits: dict[str, list[JobWait]] = {}
    for job in jobs:
        if job.wait:
            waits.setdefault(job.wait.dependency, []).append(job.wait)
    for found in waits.values():
        oldest = min(found, key=lambda wait: wait.since)
        count = formatting.plural(len(found), "job")
        yield f"waited for by {count}: {describe_wait(oldest, now)}"
