"""Structured logging: ids that every log line of a context carries, and one JSON object a line."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime

_ids: ContextVar[dict[str, str]] = ContextVar("cts_log_context", default={})  # noqa: B039 - never mutated


@contextlib.contextmanager
def log_context(**ids: str) -> Iterator[None]:
    """Add these ids to every line that is logged inside: ``request_id``, ``job_id``, ``trans_id``."""
    token = _ids.set({**_ids.get(), **ids})
    try:
        yield
    finally:
        _ids.reset(token)


def bind_log_context(**ids: str) -> None:
    """Add these ids to every line that the current task logs from now on."""
    _ids.set({**_ids.get(), **ids})


def one_line(text: str) -> str:
    """Return text from outside with its control characters escaped, so that it cannot forge further log lines."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


class JSONFormatter(logging.Formatter):
    """Formats a record as one line of JSON: time (UTC), level, logger, message, the context's ids, and any traceback."""

    def __init__(self, group: str) -> None:
        """``group`` names the deployment; an empty one is left out."""
        super().__init__()
        self._fixed = {"group": group} if group else {}

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._fixed,
            **_ids.get(),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def handled_level(logger: logging.Logger) -> int:
    """Return the lowest level of records that a handler of this logger takes.

    Jupyter's loggers let every record pass, and leave it to their handlers to drop most: each takes as long as a small request.
    """
    levels = [handler.level for handler in _handlers(logger)]
    return max(logger.getEffectiveLevel(), min(levels, default=logging.NOTSET))


def format_as_json(logger: logging.Logger, group: str) -> None:
    """Set the JSON format on every handler that this logger's records reach."""
    for handler in _handlers(logger):
        handler.setFormatter(JSONFormatter(group))


def _handlers(logger: logging.Logger) -> Iterator[logging.Handler]:
    """Yield every handler that this logger's records reach."""
    current: logging.Logger | None = logger
    while current is not None:
        yield from current.handlers
        current = current.parent if current.propagate else None
