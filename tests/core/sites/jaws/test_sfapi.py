"""The client of NERSC's Superfacility API, on a simulator of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cts_core.errors import UnavailableError
from cts_core.sites.jaws.layout import Machine
from cts_core.sites.jaws.sfapi import SFAPI, SFAPIError, Task, TaskState
from tests.harness.jaws_clients import ended_task, sfapi_client
from tests.simulators.server import PreparedResponse
from tests.simulators.sfapi import NERSC, SCRATCH

pytestmark = pytest.mark.slow


@pytest.fixture
async def sfapi(nersc: NERSC, tmp_path: Path) -> AsyncIterator[SFAPI]:
    async with sfapi_client(nersc, tmp_path) as client:
        yield client


async def test_status_and_outages_need_no_token(nersc: NERSC, sfapi: SFAPI):
    nersc.statuses["dtns"] = "unavailable"
    nersc.outages["dtns"] = [{"status": "Active"}]
    nersc.planned["dtns"] = [{"status": "Planned"}]
    assert await sfapi.status(Machine.DTNS) == {
        "name": "dtns",
        "notes": [],
        "status": "unavailable",
    }
    assert await sfapi.outages(Machine.DTNS) == [{"status": "Active"}]
    assert await sfapi.planned_outages(Machine.DTNS) == [{"status": "Planned"}]
    assert await sfapi.outages(Machine.PERLMUTTER) == []
    assert "POST /c2id/token" not in nersc.calls


async def test_client_and_its_user_are_told(nersc: NERSC, sfapi: SFAPI):
    assert await sfapi.account() == nersc.user
    client = await sfapi.client()
    assert (client.client_id, client.expires_at) == (nersc.client_id, nersc.expires_at)


async def test_client_that_never_expires_has_a_time_that_utc_can_tell(nersc: NERSC, sfapi: SFAPI):
    nersc.expires_at = datetime.fromisoformat("9999-12-31T23:59:59-08:00")
    assert (await sfapi.client()).expires_at == datetime.max.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("machine", "prefix", "scratch"),
    [
        (Machine.PERLMUTTER, "", SCRATCH["perlmutter"]),
        (Machine.DTNS, "", ""),
        (Machine.DTNS, "source /etc/bashrc; ", SCRATCH["dtns"]),
    ],
)
async def test_command_runs_on_its_machine(
    sfapi: SFAPI, machine: Machine, prefix: str, scratch: str
):
    task_id = await sfapi.run(machine, f"{prefix}echo \"$SCRATCH & $(basename ~)\" 'ü'")
    assert await ended_task(sfapi, task_id) == Task(
        TaskState.COMPLETED, is_ok=True, output=f"{scratch} & cdm_ts ü\n"
    )


async def test_command_that_fails_has_its_error(sfapi: SFAPI):
    task_id = await sfapi.run(Machine.PERLMUTTER, "echo out; echo why >&2; exit 3")
    assert await ended_task(sfapi, task_id) == Task(
        TaskState.COMPLETED, is_ok=False, output="out\n", error="why\n"
    )


async def test_task_that_is_forgotten_is_over(nersc: NERSC, sfapi: SFAPI):
    nersc.is_stuck = True
    task_id = await sfapi.run(Machine.DTNS, "true")
    assert not (await sfapi.task(task_id)).is_over
    nersc.is_stuck = False
    await ended_task(sfapi, task_id)
    nersc.forget_tasks()
    assert await sfapi.task(task_id) == Task(TaskState.GONE)


@pytest.mark.parametrize("path", ["/global/cfs/a b+ü%.json", "x.conf"])
async def test_file_is_written_and_read(nersc: NERSC, sfapi: SFAPI, path: str):
    content = bytes(range(256)) * 100
    await sfapi.upload(Machine.DTNS, path, content)
    assert nersc.place(path).read_bytes() == content
    assert await sfapi.download(Machine.DTNS, path) == content


async def test_both_machines_see_one_scratch(sfapi: SFAPI):
    await sfapi.upload(Machine.DTNS, f"{SCRATCH['dtns']}/x", b"x")
    assert await sfapi.download(Machine.PERLMUTTER, f"{SCRATCH['perlmutter']}/x") == b"x"


async def test_missing_file_is_none_and_a_missing_folder_an_error(sfapi: SFAPI):
    assert await sfapi.download(Machine.DTNS, "/global/cfs/none") is None
    with pytest.raises(SFAPIError, match="No such file or directory"):
        await sfapi.upload(Machine.DTNS, "/global/cfs/none/x", b"x")


async def test_callback_names_the_path(nersc: NERSC, sfapi: SFAPI):
    await sfapi.call_back(Machine.DTNS, "/global/x", "https://cts/callback", seconds=86_400)
    condition = {"path": "/global/x", "machine": "dtns"}
    assert nersc.callbacks == [
        {"path_condition": condition, "url": "https://cts/callback", "timeout": 86_400}
    ]


async def test_revoked_token_is_replaced_at_the_next_call(nersc: NERSC, sfapi: SFAPI):
    await sfapi.account()
    nersc.revoke_tokens()
    with pytest.raises(UnavailableError, match="refuses the token"):
        await sfapi.account()
    assert await sfapi.account() == nersc.user


_OUTAGES = [
    PreparedResponse(503, b"{}"),
    PreparedResponse(500, b"<html>", "text/html"),
    PreparedResponse(429, b"{}"),
    PreparedResponse(200, b"<html>maintenance</html>", "text/html"),
    PreparedResponse(404, b"<html>", "text/html"),
]


@pytest.mark.parametrize(
    "answer", _OUTAGES, ids=lambda answer: f"{answer.status} {answer.body.decode()}"
)
async def test_no_proper_answer_is_an_outage_and_nothing_is_sent_again(
    nersc: NERSC, sfapi: SFAPI, answer: PreparedResponse
):
    await sfapi.credentials.token()
    nersc.calls.clear()
    nersc.override = answer
    with pytest.raises(UnavailableError):
        await sfapi.run(Machine.DTNS, "true")
    assert nersc.calls == ["POST /api/v1.2/utilities/command/dtns"]


@pytest.mark.parametrize(
    "answer",
    [
        PreparedResponse(403, b'{"detail": "no"}'),
        PreparedResponse(200, b"[]"),
        PreparedResponse(200, b'{"status": "ERROR", "error": "no"}'),
        PreparedResponse(200, b""),
    ],
    ids=lambda answer: f"{answer.status} {answer.body.decode()}",
)
async def test_refusal_is_an_error_of_the_call(
    nersc: NERSC, sfapi: SFAPI, answer: PreparedResponse
):
    await sfapi.credentials.token()
    nersc.override = answer
    with pytest.raises(SFAPIError):
        await sfapi.run(Machine.DTNS, "true")


@pytest.mark.parametrize(
    "body",
    [b'{"status": "new thing"}', b'{"status": "completed", "result": "{"}', b"7"],
    ids=bytes.decode,
)
async def test_odd_task_is_an_error_of_the_call(nersc: NERSC, sfapi: SFAPI, body: bytes):
    await sfapi.credentials.token()
    nersc.override = PreparedResponse(200, body)
    with pytest.raises(SFAPIError):
        await sfapi.task("1")


async def test_call_has_one_deadline(nersc: NERSC, tmp_path: Path):
    async with (
        sfapi_client(nersc, tmp_path) as patient,
        sfapi_client(nersc, tmp_path, timeout=0.3) as sfapi,
    ):
        sfapi.credentials = patient.credentials
        await sfapi.credentials.token()
        nersc.delay = 2.0
        with pytest.raises(UnavailableError, match=r"did not answer within 0\.3 s"):
            await sfapi.account()
