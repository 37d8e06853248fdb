"""The port through which events leave: a topic, or the hub of this process."""

from __future__ import annotations

from typing import Protocol

from cts_core.model.event import JobEvent


class EventPublisher(Protocol):
    """Where the outbox sends events."""

    async def publish(self, event: JobEvent) -> None:
        """Deliver an event; returns once it is acknowledged. Raises UnavailableError."""
