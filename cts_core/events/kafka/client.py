"""The connection of a producer or a consumer to its brokers."""

from __future__ import annotations

import logging
from typing import Any, TypeVar

from kafka import KafkaConsumer, KafkaProducer

from cts_core.config.sections import KafkaSettings

CONNECT_SECONDS = 5.0
"""Time limit for finding the brokers, and then the topic."""
REQUEST_SECONDS = 10.0
"""Time limit for the response of a broker."""
CLOSE_SECONDS = 2.0
"""Time limit for closing a client."""
MAX_RECONNECT_SECONDS = 1.0
"""The longest delay between attempts to reconnect to a broker."""


_Client = TypeVar("_Client", KafkaProducer, KafkaConsumer)


def connect(kind: type[_Client], settings: KafkaSettings, **options: object) -> _Client:
    """Return a client that is connected to its brokers. Raises KafkaError, and then leaves nothing open."""
    _quieten()
    # A client that finds no broker raises, and leaves its connections and its thread open.
    connections: list[Any] = []

    def make_connections(**given: object) -> object:
        connections.append(kind.DEFAULT_CONFIG["kafka_client"](**given))
        return connections[-1]

    try:
        return kind(
            bootstrap_servers=settings.bootstrap_servers,
            bootstrap_timeout_ms=int(CONNECT_SECONDS * 1000),
            request_timeout_ms=int(REQUEST_SECONDS * 1000),
            reconnect_backoff_max_ms=int(MAX_RECONNECT_SECONDS * 1000),
            client_id="cts",
            kafka_client=make_connections,
            **options,
        )
    except BaseException:  # no other code can close these
        for opened in connections:
            opened.close()
        raise


def _quieten() -> None:
    # During an outage the client logs every attempt, many a second. Our errors say what matters.
    client = logging.getLogger("kafka")
    if client.level == logging.NOTSET:
        client.setLevel(logging.CRITICAL)
