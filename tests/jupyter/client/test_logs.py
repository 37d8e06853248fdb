"""The end of a log, and following one, at services that know ``tail`` and ``wait`` and at older ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from cts_jupyter.client import logs
from cts_jupyter.client.client import CTSClient, CTSRequestError
from cts_jupyter.client.models import LogPart


class Service:
    """Stands for a client: a log that grows with each request for a part of it."""

    def __init__(
        self, *pieces: bytes, is_new: bool, refuses: CTSRequestError | None = None
    ) -> None:
        self.pieces = list(pieces)
        self.written = b""
        self.is_new = is_new
        self.refuses = refuses
        self.asked: list[dict[str, Any]] = []

    def supports(self, _method: str, _path: str, _parameter: str) -> bool:
        return self.is_new

    def has_ended(self) -> bool:
        return not self.pieces

    def log_part(self, *_: object, seek: int = 0, **more: Any) -> LogPart:
        self.asked.append(more)
        if self.refuses is not None:
            error, self.refuses = self.refuses, None
            raise error
        if self.pieces:
            self.written += self.pieces.pop(0)
        if not self.is_new:
            return LogPart(content=self.written[seek:], size=None, ended=False)
        start = max(0, len(self.written) - more["tail"]) if "tail" in more else seek
        content, size = self.written[start:], len(self.written)
        return LogPart(content=content, size=size, ended=self.has_ended())

    def stream_log(self, *_: object) -> Iterator[bytes]:
        while self.pieces:
            yield self.pieces.pop(0)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_POLL_SECONDS", 0)


def follow(service: Service) -> str:
    client = cast("CTSClient", service)
    return "".join(logs.follow_log(client, "job", 0, "stdout", service.has_ended))


@pytest.mark.parametrize("is_new", [True, False])
def test_a_log_is_followed_to_its_end(is_new: bool) -> None:  # noqa: FBT001 - a parameter
    service = Service(b"one\n", b"", "zwölf\n".encode()[:3], "zwölf\n".encode()[3:], is_new=is_new)
    assert follow(service) == "one\nzwölf\n"
    assert {asked["wait"] for asked in service.asked} == {20 if is_new else None}


@pytest.mark.parametrize(("status", "appcode"), [(404, 40070), (429, 60000)])
def test_following_outlasts_what_passes(status: int, appcode: int) -> None:
    refused = CTSRequestError("not now", status=status, appcode=appcode)
    assert follow(Service(b"one\n", is_new=True, refuses=refused)) == "one\n"


def test_following_ends_with_a_real_error() -> None:
    refused = CTSRequestError("not yours", status=403, appcode=20000)
    with pytest.raises(CTSRequestError, match="not yours"):
        follow(Service(b"one\n", is_new=True, refuses=refused))


@pytest.mark.parametrize("is_new", [True, False])
def test_only_the_end_is_kept(is_new: bool) -> None:  # noqa: FBT001 - a parameter
    service = Service(b"one\ntwo\nthree\n", is_new=is_new)
    client = cast("CTSClient", service)
    text = logs.read_log(client, "job", 0, "stdout", limit=8)
    assert text == "[the first 6 bytes are left out]\nthree\n"
    assert service.asked == ([{"tail": 8}] if is_new else [])
