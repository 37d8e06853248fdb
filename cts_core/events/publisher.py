"""The port through which events leave: a topic, or the hub of this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cts_core.model.event import JobEvent

Wake = Callable[[str, str], None]
"""Told the job and the ``trans_id`` of each event that comes by on a topic."""


class EventPublisher(Protocol):
    """Where the outbox sends events."""

    async def publish(self, event: JobEvent) -> None:
        """Deliver an event; returns once it is acknowledged. Raises UnavailableError."""


class Topic(EventPublisher, Protocol):
    """A publisher that other servers share, and that tells what any of them has published."""

    @property
    def ignored(self) -> int:
        """How many messages came by that were none of ours."""

    async def open(self, wake: Wake) -> None:
        """Begin, also while the topic cannot be reached. ``wake`` is called on this event loop."""

    async def check(self) -> None:
        """Raise UnavailableError when the topic cannot be used now."""

    async def close(self) -> None:
        """Give up what is under way and release everything."""


class HubFirst:
    """Publishes to this process's hub, then to a topic.

    The event is in the store already, so that subscribers need not wait for the topic to acknowledge it, nor
    miss it while the topic is away. What is tried again reaches the hub again, which drops it.
    """

    def __init__(self, hub: EventPublisher, topic: EventPublisher) -> None:
        self._hub = hub
        self._topic = topic

    async def publish(self, event: JobEvent) -> None:
        """See the port; the acknowledgement is the topic's."""
        await self._hub.publish(event)
        await self._topic.publish(event)
