"""The port through which events leave: a topic, or the hub of this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from typing_extensions import override

from cts_core.model.event import JobEvent

Wake = Callable[[str, str], None]
"""Called with the job id and the ``trans_id`` of each event that arrives on a topic."""


class EventPublisher(Protocol):
    """The port to which the outbox sends events."""

    async def publish(self, event: JobEvent) -> None:
        """Deliver an event, and return once it is acknowledged. Raises UnavailableError."""


class Topic(EventPublisher, Protocol):
    """A publisher that all servers share, and that reports what any of them publishes."""

    @property
    def ignored(self) -> int:
        """The number of messages that arrived and were not events of CTS."""

    async def open(self, wake: Wake) -> None:
        """Start, even if the topic cannot be reached. ``wake`` is called on this event loop."""

    async def check(self) -> None:
        """Raise UnavailableError if the topic cannot be used now."""

    async def close(self) -> None:
        """Abandon publications under way and release all resources."""


class HubFirst(EventPublisher):
    """Publishes to this process's hub, then to a topic, whose acknowledgement counts.

    The event is stored already, so that subscribers need not wait until the topic acknowledges it, nor miss it during an
    outage of the topic. A retry reaches the hub again, which drops it.
    """

    def __init__(self, hub: EventPublisher, topic: EventPublisher) -> None:
        self._hub = hub
        self._topic = topic

    @override
    async def publish(self, event: JobEvent) -> None:
        await self._hub.publish(event)
        await self._topic.publish(event)
