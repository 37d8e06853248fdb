"""What folders at NERSC tell, and when they are looked at."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest

from cts_core.errors import UnavailableError
from cts_core.sites.jaws import look
from cts_core.sites.jaws.layout import Attempt, Layout, Step
from cts_core.sites.jaws.look import (
    Lookout,
    SeenFolder,
    done_attempt,
    failed_attempt,
    is_rested,
    last_number,
    read_folder,
)
from cts_core.sites.jaws.results import StepEnd
from cts_core.sites.jaws.sfapi import CommandError, SFAPIError
from cts_core.sites.jaws.steps import SeenAttempt
from tests.harness.jaws_vectors import LAYOUT, LEFT

DONE = '{"result": "success", "data": {"run_id": 7}}'


def _file(text: str | None = None, age: float = 0.0) -> dict[str, Any]:
    return {"age": age, "size": 1, **({} if text is None else {"text": text})}


def test_folder_that_is_not_there_tells_nothing():
    assert read_folder(None, {}, 5.0) == SeenFolder(time=5.0)


def test_attempts_are_told_in_the_order_of_their_numbers():
    files = {
        "submit-10.claim": _file(age=30),
        "submit-9.claim": _file(age=400),
        "submit-9.json": _file('{"result": "fail", "job_msg": "why"}'),
        "upload-1.json": _file(DONE),
        "upload-1.claim": _file(age=10),
    }
    seen = read_folder(files, {}, 0.0)
    assert last_number(seen, Step.SUBMIT) == 10
    assert [attempt.is_lost for attempt in seen.attempts[Step.SUBMIT]] == [True] * 8 + [False] * 2
    assert seen.attempts[Step.SUBMIT][8].end == StepEnd(is_done=False, reason="why")
    assert seen.attempts[Step.SUBMIT][9] == SeenAttempt(age=timedelta(seconds=30))
    assert done_attempt(seen, Step.UPLOAD) == Attempt(Step.UPLOAD, 1)
    assert done_attempt(seen, Step.SUBMIT) is None


@pytest.mark.parametrize("files", [{"upload-1.claim": 5}, {"upload-1.claim": {"age": "x"}}])
def test_claim_of_unknown_age_is_lost(files: Mapping[str, Any]):
    ((attempt,),) = read_folder(files, {}, 0.0).attempts.values()
    assert attempt.is_lost


def test_ends_that_are_too_long_are_read_by_themselves():
    files = {"logs-1.claim": _file(), "logs-1.json": _file(), "download_result.json": _file()}
    assert read_folder(files, {}, 0.0).untold == ["download_result.json", "logs-1.json"]
    told = {"logs-1.json": DONE, "download_result.json": "{"}
    seen = read_folder(files, told, 0.0)
    assert seen.untold == []
    assert seen.attempts[Step.LOGS][0].end == StepEnd(is_done=True, data={"run_id": 7})
    assert seen.deployed == {}


def test_ends_of_the_deployed_service():
    found = {
        **LEFT["after the download"],
        **LEFT["after the upload"],
        **LEFT["after the error logs"],
    }
    files = {name: _file(json.dumps(content)) for name, content in found.items()}
    deployed = read_folder(files, {}, 0.0).deployed
    assert {step: end.is_done for step, end in deployed.items()} == {
        Step.DOWNLOAD: True,
        Step.CHECKSUMS: True,
        Step.UPLOAD: True,
        Step.LOGS: True,
    }
    failed = LEFT["after a failed download whose callback was refused"]["download_result.json"]
    seen = read_folder({"download_result.json": _file(json.dumps(failed))}, {}, 0.0)
    assert not seen.deployed[Step.DOWNLOAD].is_done


def test_attempts_are_spaced():
    now = time.monotonic()
    attempts = [SeenAttempt(StepEnd(is_done=False), timedelta(seconds=15))] * 2
    seen = SeenFolder({Step.UPLOAD: attempts}, time=now)
    assert is_rested(seen, Attempt(Step.DOWNLOAD, 1))
    assert is_rested(seen, Attempt(Step.UPLOAD, 2))
    assert not is_rested(seen, Attempt(Step.UPLOAD, 3))
    assert is_rested(SeenFolder({Step.UPLOAD: attempts}, time=now - 6), Attempt(Step.UPLOAD, 3))


def test_attempt_that_failed_is_told_until_its_step_succeeds():
    why = SeenAttempt(StepEnd(is_done=False, reason="no site"))
    mute = SeenAttempt(StepEnd(is_done=False))
    done, works = SeenAttempt(StepEnd(is_done=True)), SeenAttempt()
    first = {Step.DOWNLOAD: [why, done]}
    assert failed_attempt(SeenFolder()) is None
    assert failed_attempt(SeenFolder(first)) is None
    assert failed_attempt(SeenFolder({**first, Step.SUBMIT: [works]})) is None
    told = failed_attempt(SeenFolder({**first, Step.SUBMIT: [mute, why, works]}))
    assert told == (Attempt(Step.SUBMIT, 2), "no site")
    told = failed_attempt(SeenFolder({**first, Step.SUBMIT: [why, mute]}))
    assert told == (Attempt(Step.SUBMIT, 2), "it does not say why")


class Helper:
    """A helper at NERSC, which answers as a test sets."""

    layout: Layout = LAYOUT

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.files: dict[str, Any] = {}
        self.contents: dict[str, bytes] = {}
        self.error: Exception | None = None
        self.unread: dict[str, Exception] = {}
        """Why folders and files cannot be read."""
        self.most = 100
        """How many folders there is room for in an answer."""

    async def ask_helper(
        self, arguments: Sequence[str], question: Mapping[str, Any] | None = None
    ) -> Any:
        assert question is not None
        self.asked.append(question["folders"])
        if self.error is not None:
            raise self.error
        folders = question["folders"][: self.most]
        told = {f: self.files.get(f) for f in folders if f not in self.unread}
        return {"folders": told, "left": question["folders"][self.most :]}

    async def read(self, path: str) -> bytes | None:
        if path in self.unread:
            raise self.unread[path]
        return self.contents.get(path)


async def _end(lookout: Lookout) -> None:
    assert lookout._task is not None
    await lookout._task


async def test_one_look_serves_all_folders_that_are_wanted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(look, "MAX_FOLDERS", 2)
    helper = Helper()
    told: list[str] = []
    helper.files["/a"] = {"logs-1.claim": _file(), "logs-1.json": _file()}
    helper.contents["/a/logs-1.json"] = DONE.encode()
    lookout = Lookout(helper, seconds=1000)
    for folder in ("/a", "/b", "/c", "/a"):
        lookout.want(folder, told.append)
    await _end(lookout)
    assert helper.asked == [["/a", "/b"]]
    assert told == ["/a", "/b"]
    first = lookout.find("/a")
    assert first is not None
    assert done_attempt(first, Step.LOGS) == Attempt(Step.LOGS, 1)
    assert (lookout.find("/b"), lookout.find("/c")) == (SeenFolder(time=first.time), None)
    # The next is not due, unless somebody says that something has happened; those that wait longest come first.
    lookout.want("/a", told.append)
    assert len(helper.asked) == 1
    monkeypatch.setattr(look, "NUDGED_SECONDS", 0.0)
    lookout.hurry()
    lookout.want("/a", told.append)
    await _end(lookout)
    assert helper.asked[1:] == [["/c", "/a"]]


async def test_look_takes_as_many_commands_as_it_needs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(look, "MAX_ASKED", 3)
    helper, told = Helper(), list[str]()
    helper.most = 2
    helper.unread = {"/b": UnavailableError("no such file system")}
    lookout = Lookout(helper, seconds=0)
    for name in "abcde":
        lookout.want(f"/{name}", told.append)
    await _end(lookout)
    assert helper.asked == [["/a", "/b", "/c"], ["/c", "/d", "/e"], ["/e"]]
    assert told == ["/a", "/c", "/d", "/e"]
    # One that tells nothing is no end of it.
    helper.most = 0
    lookout.want("/a", told.append)
    await _end(lookout)
    assert "the helper tells of no folders" in caplog.text
    assert len(helper.asked) == 4


async def test_look_that_fails_is_made_again(caplog: pytest.LogCaptureFixture):
    helper = Helper()
    lookout = Lookout(helper, seconds=0)
    helper.error = UnavailableError("NERSC is away")
    lookout.want("/a", lambda _: None)
    await _end(lookout)
    assert "NERSC is away" in caplog.text
    helper.error = None
    lookout.want("/a", lambda _: None)
    await _end(lookout)
    assert lookout.find("/a") is not None
    lookout.forget("/a")
    assert lookout.find("/a") is None


@pytest.mark.parametrize("error", [SFAPIError("too large"), UnavailableError("status 500")])
async def test_folder_that_cannot_be_read_keeps_no_other(error: Exception):
    helper = Helper()
    helper.files = {
        folder: {"logs-1.claim": _file(), "logs-1.json": _file()} for folder in ("/a", "/b", "/c")
    }
    helper.contents = {"/c/logs-1.json": DONE.encode()}
    helper.unread = {"/a": error, "/b/logs-1.json": error}
    told: list[str] = []
    lookout = Lookout(helper, seconds=0)
    for folder in ("/a", "/b", "/c"):
        lookout.want(folder, told.append)
    await _end(lookout)
    # Nothing is known of the others, which is not that nothing is there.
    assert told == ["/c"]
    assert (lookout.find("/a"), lookout.find("/b")) == (None, None)
    for folder in ("/a", "/b"):
        with pytest.raises(CommandError, match=f"{folder} cannot be read now"):
            await lookout.look_at(folder)
    helper.unread = {}
    lookout.want("/c", told.append)
    await _end(lookout)
    assert told == ["/c", "/a", "/b", "/c"]


async def test_folders_that_cannot_be_read_starve_no_other(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(look, "MAX_FOLDERS", 2)
    helper = Helper()
    helper.unread = dict.fromkeys(("/a", "/b"), UnavailableError("no such file system"))
    lookout = Lookout(helper, seconds=0)
    for _ in range(3):
        for folder in ("/a", "/b", "/c", "/d"):
            lookout.want(folder, lambda _: None)
        await _end(lookout)
    assert helper.asked == [["/a", "/b"], ["/c", "/d"], ["/a", "/b"]]
    assert lookout.find("/d") is not None


async def test_folder_that_is_forgotten_in_a_look_stays_forgotten():
    lookout = Lookout(Helper(), seconds=0)
    lookout.want("/a", lambda _: pytest.fail("nobody waits for it"))
    lookout.forget("/a")
    await asyncio.sleep(0)
    await _end(lookout)
    assert lookout.find("/a") is None
    await lookout.stop()


async def test_long_result_that_was_half_written_is_read_again():
    helper = Helper()
    name = "download_result.json"
    helper.files = {"/a": {name: _file()}}
    lookout = Lookout(helper, seconds=0)
    for content, is_done in ((DONE[:20], False), (DONE, True), (DONE[:20], True)):
        helper.contents = {f"/a/{name}": content.encode()}
        seen = await lookout.look_at("/a")
        assert (Step.DOWNLOAD in seen.deployed) is is_done
