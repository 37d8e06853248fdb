"""The simulator of NERSC refuses what NERSC would refuse."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from cts_core.errors import UnavailableError
from cts_core.sites.jaws.layout import Machine
from cts_core.sites.jaws.sfapi import SFAPI, SFAPIError, TaskState
from tests.harness.jaws_clients import ended_task, sfapi_client
from tests.simulators.server import PreparedResponse, SimulatorServer
from tests.simulators.sfapi import NERSC, SCRATCH

pytestmark = pytest.mark.slow
KIND = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def _form(nersc: NERSC, **changes: Any) -> dict[str, str]:
    """Return a request for a token; changes are of the claims of its JWT."""
    claims = {
        "iss": nersc.client_id,
        "sub": nersc.client_id,
        "aud": nersc.token_url,
        "exp": int(time.time()) + 60,
        "jti": "1",
        **changes,
    }
    assertion = jwt.encode(claims, nersc.pem(), algorithm="RS256")
    return {
        "grant_type": "client_credentials",
        "client_assertion_type": KIND,
        "client_assertion": assertion,
    }


def test_token_is_for_one_signed_request(nersc: NERSC):
    form = _form(nersc)
    token = httpx.post(nersc.token_url, data=form).json()["access_token"]
    assert httpx.post(nersc.token_url, data=form).status_code == 401, "its jti was used"
    headers = {"Authorization": f"Bearer {token}"}
    assert httpx.get(f"{nersc.api_url}account/", headers=headers).json()["name"] == nersc.user


@pytest.mark.parametrize(
    "change", [{"aud": "x"}, {"exp": 1}, {"iss": "x"}, {"sub": "x"}, {"jti": None}], ids=str
)
def test_request_with_other_claims_is_refused(nersc: NERSC, change: dict[str, Any]):
    assert httpx.post(nersc.token_url, data=_form(nersc, **change)).status_code == 401


def test_request_that_another_key_signed_is_refused(nersc: NERSC):
    form = _form(nersc)
    nersc.renew_client(nersc.client_id)
    assert httpx.post(nersc.token_url, data=form).status_code == 401


@pytest.mark.parametrize("token", ["", "Bearer x", "token"])
def test_call_without_a_token_is_refused(nersc: NERSC, token: str):
    url = f"{nersc.api_url}account/"
    assert httpx.get(url, headers={"Authorization": token}).status_code == 401


@pytest.fixture
async def sfapi(nersc: NERSC, tmp_path: Path) -> AsyncIterator[SFAPI]:
    async with sfapi_client(nersc, tmp_path) as client:
        yield client


async def _output(sfapi: SFAPI, machine: Machine, command: str) -> str:
    task = await ended_task(sfapi, await sfapi.run(machine, command))
    return task.output or task.error


async def test_callback_is_made_once_its_path_is_there(nersc: NERSC, sfapi: SFAPI):
    called: list[str] = []

    def respond(method: str, target: str, *_: Any) -> PreparedResponse:
        called.append(f"{method} {target}")
        return PreparedResponse(204)

    service = SimulatorServer(respond)
    service.start()
    path = f"{SCRATCH['dtns']}/done"
    await sfapi.call_back(Machine.DTNS, path, f"{service.url}/callback/x", seconds=60)
    await sfapi.call_back(Machine.DTNS, path, f"{service.url}/too/late", seconds=0)
    assert called == []
    nersc.place(path).touch()
    async with asyncio.timeout(20):
        while not called:
            await asyncio.sleep(0.02)
    assert called == ["GET /callback/x"]
    service.stop()


@pytest.mark.parametrize(("machine", "has_modules"), [("perlmutter", True), ("dtns", False)])
async def test_modules_are_there_once_bash_has_read_its_settings(
    sfapi: SFAPI, machine: str, has_modules: Any
):
    use = "module use /global/common/software/nersc/pe/modulefiles/latest"
    show = "module load python; python3 -c 'import sys; print(sys.version_info >= (3, 9))'"
    assert await _output(sfapi, Machine(machine), f"source /etc/bashrc; {use}; {show}") == "True\n"
    bare = await _output(sfapi, Machine(machine), f"{use} && echo used")
    assert (bare == "used\n") is has_modules
    unknown = f"source /etc/bashrc; {use}; module load other"
    assert "unknown" in await _output(sfapi, Machine(machine), unknown)


async def test_sizes_have_limits_where_a_test_sets_them(nersc: NERSC, sfapi: SFAPI):
    command, content, path = f"echo {'x' * 1000}", b"x" * 1000, f"{SCRATCH['dtns']}/file"
    assert len(await _output(sfapi, Machine.DTNS, command)) == 1001
    await sfapi.upload(Machine.DTNS, path, content)
    nersc.max_output = 10
    assert await _output(sfapi, Machine.DTNS, command) == "x" * 10
    nersc.max_command = nersc.max_upload = 500
    with pytest.raises(SFAPIError, match="500 bytes"):
        await sfapi.run(Machine.DTNS, command)
    with pytest.raises(SFAPIError, match="Too Large"):
        await sfapi.upload(Machine.DTNS, path, content)


async def test_command_that_takes_too_long_fails(nersc: NERSC, sfapi: SFAPI):
    nersc.task_seconds = 0.2
    task = await ended_task(sfapi, await sfapi.run(Machine.DTNS, "sleep 60"))
    assert task.state is TaskState.FAILED


async def test_command_runs_although_its_answer_is_lost_and_twice_where_a_test_says_so(
    nersc: NERSC, sfapi: SFAPI
):
    path = f"{SCRATCH['dtns']}/runs"
    # The token is there before.
    await sfapi.account()
    nersc.lost_answers, nersc.doubles_commands = 1, True
    with pytest.raises(UnavailableError):
        await sfapi.run(Machine.DTNS, f"echo run >> {path}")
    async with asyncio.timeout(20):
        while not nersc.place(path).exists() or nersc.place(path).read_text() != "run\nrun\n":
            await asyncio.sleep(0.02)
    assert (await ended_task(sfapi, "1")).is_ok
