"""The topic as a whole: what this server publishes on it, and what it hears from it."""

from __future__ import annotations

import asyncio

from cts_core.config.sections import KafkaSettings
from cts_core.errors import UnavailableError
from cts_core.events.kafka.listener import KafkaListener
from cts_core.events.kafka.publisher import KafkaPublisher
from cts_core.events.publisher import Wake
from cts_core.model.event import JobEvent


class KafkaTopic:
    """The port ``Topic`` on Kafka."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._publisher = KafkaPublisher(settings)
        self._listener = KafkaListener(settings)

    @property
    def ignored(self) -> int:
        """See the port."""
        return self._listener.ignored

    async def open(self, wake: Wake) -> None:
        """See the port."""
        await self._listener.open(wake)

    async def check(self) -> None:
        """See the port; as of ``CHECK_SECONDS`` ago at the most."""
        if self._listener.error is not None:
            raise UnavailableError(self._listener.error)

    async def publish(self, event: JobEvent) -> None:
        """See the port."""
        await self._publisher.publish(event)

    async def close(self) -> None:
        """See the port."""
        await asyncio.gather(self._listener.close(), self._publisher.close())
