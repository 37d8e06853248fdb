"""What a producer and a consumer have in common."""

from __future__ import annotations

import logging
from typing import Any, TypeVar

from kafka import KafkaConsumer, KafkaProducer

from cts_core.config.sections import KafkaSettings

CONNECT_SECONDS = 5.0
"""How long a client looks for the brokers, and then for the topic."""
REQUEST_SECONDS = 10.0
"""How long a broker may take to answer."""
CLOSE_SECONDS = 2.0
"""How long the end of a client is waited for."""
MAX_RECONNECT_SECONDS = 1.0
"""Between tries to reach a broker that was lost."""


_Client = TypeVar("_Client", KafkaProducer, KafkaConsumer)


def connect(kind: type[_Client], settings: KafkaSettings, **options: object) -> _Client:
    """A client that has found its brokers. Raises KafkaError, and then nothing of it is left."""
    _quieten()
    # A client that finds no broker raises, and leaves its connections and its thread to nobody.
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
    except BaseException:  # whatever ends it, nobody else knows of these
        for opened in connections:
            opened.close()
        raise


def _quieten() -> None:
    # While a broker is away the client logs every try, many a second. What matters of it is in our errors.
    client = logging.getLogger("kafka")
    if client.level == logging.NOTSET:
        client.setLevel(logging.CRITICAL)
