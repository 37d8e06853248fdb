"""Large answers of NERSC and JAWS are read in threads, and the event loop goes on meanwhile."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from cts_core.http_client import SHORT_JSON
from cts_core.model.site import SiteName
from cts_core.sites.jaws import look
from cts_core.sites.jaws.central import Central
from cts_core.sites.jaws.follow import Followed
from cts_core.sites.jaws.layout import Machine, Step
from cts_core.sites.jaws.look import Lookout, SeenFolder
from cts_core.sites.jaws.pace import Pace
from cts_core.sites.jaws.results import StepEnd
from cts_core.sites.jaws.runner import StepRunner
from cts_core.sites.jaws.sfapi import SFAPI
from cts_core.sites.jaws.steps import Decision, Next, SeenAttempt
from tests.harness.factories import CRC, NOON, make_job_record
from tests.harness.jaws_vectors import LAYOUT

LONG = "x" * 3 * SHORT_JSON


class Answering:
    """A client whose every answer is the same, and what else clients need."""

    credentials = layout = None

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.credentials = self

    async def send(self, *_: object, **__: object) -> tuple[int, bytes]:
        return 200, json.dumps(self.answer).encode()

    async def token(self) -> SecretStr:
        return SecretStr("t")

    def accept(self, token: SecretStr) -> None:
        """Nothing is kept."""


def _sfapi(answer: object) -> SFAPI:
    http: Any = Answering(answer)
    return SFAPI("http://x", "http://x", http, http, Pace(1000))


async def _search() -> None:
    http: Any = Answering([{"id": n, "tag": LONG[:1000]} for n in range(300)])
    central = Central("http://x", SecretStr("t"), http, Pace(1000))
    assert await central.find("other", NOON) == []


async def _download() -> None:
    # More than one piece.
    content = bytes(range(256)) * 8000
    answer = {"status": "OK", "is_binary": True, "file": base64.b64encode(content).decode()}
    assert await _sfapi(answer).download(Machine.DTNS, "/x") == content


async def _output_of_a_command() -> None:
    result = json.dumps({"status": "ok", "output": LONG})
    task = await _sfapi({"status": "completed", "result": result}).task("1")
    assert task.output == LONG


async def _checksums() -> None:
    entry = {"s3path": "a", "respath": "call-run_container/shard-0/a", "crc64nvme": CRC, "size": 1}
    sums = json.dumps({"root": "/run", "files": [entry] * 3000}).encode()

    async def read(_path: str) -> bytes:
        return sums

    facility: Any = SimpleNamespace(read=read, lookout=None)
    nothing: Any = None
    runner = StepRunner(SiteName.PERLMUTTER_JAWS, facility, nothing, nothing)
    done = SeenAttempt(StepEnd(is_done=True))
    seen = SeenFolder({Step.CHECKSUMS: [done]})
    followed, decision = Followed(make_job_record(), "/folder"), Decision((), Next.VERIFY)
    sums_found = await runner._sums(followed, decision, seen, None)
    assert sums_found is not None
    root, found = sums_found
    assert (root, len(found)) == ("/run", 3000)


async def _folders() -> None:
    end = json.dumps({"result": "success", "data": LONG})

    async def ask_helper(*_: object) -> object:
        file = {"text": end, "size": len(end), "age": 0.0}
        return {"folders": {"/folder": {"download-1.json": file}}, "left": []}

    helper: Any = SimpleNamespace(layout=LAYOUT, ask_helper=ask_helper)
    seen = await Lookout(helper).look_at("/folder")
    assert look.done_attempt(seen, Step.DOWNLOAD)


@pytest.mark.parametrize("read", [_search, _download, _output_of_a_command, _checksums, _folders])
async def test_large_answer_is_not_read_on_the_loop(
    monkeypatch: pytest.MonkeyPatch, read: Callable[[], Coroutine[Any, Any, None]]
):
    seen: list[bool] = []

    def watch(module: Any, name: str) -> None:
        function = getattr(module, name)

        def watched(content: Any, *args: Any, **kwargs: Any) -> Any:
            if len(content) > SHORT_JSON:
                seen.append(threading.current_thread() is threading.main_thread())
            return function(content, *args, **kwargs)

        monkeypatch.setattr(module, name, watched)

    watch(json, "loads")
    watch(base64, "b64decode")
    await read()
    assert seen
    assert not any(seen)
