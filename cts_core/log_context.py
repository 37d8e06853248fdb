"""What a line of the log belongs to, and the log as one JSON object a line."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime

_about: ContextVar[dict[str, str]] = ContextVar("cts_about", default={})  # noqa: B039 - never changed in place


@contextlib.contextmanager
def about(**ids: str) -> Iterator[None]:
    """Everything logged inside belongs to these: ``request_id``, ``job_id``, ``trans_id``."""
    token = _about.set({**_about.get(), **ids})
    try:
        yield
    finally:
        _about.reset(token)


def set_about(**ids: str) -> None:
    """The same, for the rest of the current task."""
    _about.set({**_about.get(), **ids})


def one_line(text: str) -> str:
    """What somebody sent, with its control characters escaped: it must not pass for further lines of the log."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


class JSONFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, what it is about, and the trace if any."""

    def __init__(self, group: str) -> None:
        """``group`` names the deployment; empty leaves it out."""
        super().__init__()
        self._fixed = {"group": group} if group else {}

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._fixed,
            **_about.get(),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def write_json(logger: logging.Logger, group: str) -> None:
    """Have everything that this logger says, through whatever handlers it reaches, written as JSON."""
    current: logging.Logger | None = logger
    while current is not None:
        for handler in current.handlers:
            handler.setFormatter(JSONFormatter(group))
        current = current.parent if current.propagate else None
