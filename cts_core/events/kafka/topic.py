"""The topic as a whole: its publisher and its listener."""

from __future__ import annotations

import asyncio

from typing_extensions import override

from cts_core.config.sections import KafkaSettings
from cts_core.errors import UnavailableError
from cts_core.events.kafka.listener import KafkaListener
from cts_core.events.kafka.publisher import KafkaPublisher
from cts_core.events.publisher import Topic, Wake
from cts_core.model.event import JobEvent


class KafkaTopic(Topic):
    """The port ``Topic`` on Kafka."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._publisher = KafkaPublisher(settings)
        self._listener = KafkaListener(settings)

    @property
    @override
    def ignored(self) -> int:
        return self._listener.ignored

    @override
    async def open(self, wake: Wake) -> None:
        await self._listener.open(wake)

    @override
    async def check(self) -> None:
        # As of ``CHECK_SECONDS`` ago at most, and of the last publication: brokers may answer and yet take no event.
        error = self._listener.error or self._publisher.error
        if error is not None:
            raise UnavailableError(error)

    @override
    async def publish(self, event: JobEvent) -> None:
        await self._publisher.publish(event)

    @override
    async def close(self) -> None:
        await asyncio.gather(self._listener.close(), self._publisher.close())
