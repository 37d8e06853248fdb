"""Logs of containers: the end of one, and following one as it grows."""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus

from cts_jupyter.client.client import CTSClient
from cts_jupyter.client.transport import CTSRequestError
from cts_jupyter.formatting import printable

STREAMS = ("stdout", "stderr")
MAX_SHOWN = 64_000
"""The number of bytes that are shown, from the end of a log."""
MAX_WAIT_SECONDS = 20
"""The time for which a service may be asked to wait for a log to grow."""
_POLL_SECONDS = 1.0
_PART = 1 << 20
"""Bytes of a log that are asked for at once."""
_PATH = "/jobs/{{job_id}}/log/{{container_num}}/{stream}"
_NO_LOGS = 40070
_SEEK_PAST_END = 30001


class PlainText(str):
    """Text that a notebook shows without quotes, such as a log."""

    __slots__ = ()

    def __repr__(self) -> str:
        return printable(str(self))


def read_log(
    client: CTSClient,
    job_id: str,
    number: int,
    stream: str,
    *,
    lines: int | None = None,
    limit: int = MAX_SHOWN,
) -> PlainText:
    """Return the end of a log: at most ``limit`` bytes and ``lines`` lines. Empty when nothing was written.

    The first line says how many bytes were left out because of ``limit``. Raises CTSClientError.
    """
    kept, size = b"", 0
    try:
        if client.supports("GET", _PATH.format(stream=stream), "tail"):
            part = client.log_part(job_id, number, stream, tail=limit)
            kept, size = part.content, part.size or 0
        else:
            for piece in client.stream_log(job_id, number, stream):
                size += len(piece)
                kept = (kept + piece)[-limit:]
    except CTSRequestError as e:
        if e.appcode != _NO_LOGS:
            raise
    text = kept.decode(errors="replace")
    left_out = size - len(kept)
    if left_out:
        text = text.partition("\n")[2]
    if lines is not None:
        return PlainText("".join(text.splitlines(keepends=True)[-lines:]))
    return PlainText(f"[the first {left_out:,} bytes are left out]\n{text}" if left_out else text)


def follow_log(
    client: CTSClient, job_id: str, number: int, stream: str, has_ended: Callable[[], bool]
) -> Iterator[str]:
    """Iterate over a log from its beginning, as it grows, until the job has ended and all was read.

    ``has_ended`` returns whether the job has ended. Raises CTSClientError.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    waits = client.supports("GET", _PATH.format(stream=stream), "wait")
    wait = MAX_WAIT_SECONDS if waits else None
    seek = 0
    while True:
        is_over = has_ended()
        before = seek
        try:
            part = client.log_part(job_id, number, stream, seek=seek, length=_PART, wait=wait)
            seek += len(part.content)
            yield decoder.decode(part.content)
            if part.ended and seek == part.size:
                return
        except CTSRequestError as e:
            if e.appcode == _SEEK_PAST_END and seek:
                is_over = True
            elif e.appcode != _NO_LOGS and e.status != HTTPStatus.TOO_MANY_REQUESTS:
                raise
        if seek == before:
            if is_over:
                return
            time.sleep(_POLL_SECONDS)
