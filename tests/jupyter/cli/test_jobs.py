"""``cts jobs`` on an embedded store, with and without a running server."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from cts_core.clock import utc_now
from cts_core.config.load import load_settings
from cts_core.engine.engine import Engine
from cts_core.identity.identity import User
from cts_core.identity.jupyter import OWNER_ROLES, JupyterIdentity
from cts_core.model.image import ImageRegistration
from cts_core.model.record import JobRecord, JobWait
from cts_core.records.sqlite.store import SQLiteStore
from cts_core.sites.jaws.layout import Machine
from cts_core.states import JobState
from cts_jupyter import formatting
from tests.harness.cli import Run
from tests.harness.factories import make_job_record, make_submission
from tests.harness.jaws_settings import jaws_settings, settings_variables
from tests.harness.jaws_vectors import LAYOUT
from tests.harness.paths import APPEND_RUN
from tests.services.s3 import S3Server
from tests.simulators.jaws_sites import JAWSSites, jaws_sites

__all__ = ["jaws_sites"]
pytestmark = pytest.mark.slow

ANA = User("ana", OWNER_ROLES)


@pytest.fixture
async def store(environ: dict[str, str]) -> AsyncIterator[SQLiteStore]:
    home = Path(environ["CTS_HOME"])
    home.mkdir()
    store = SQLiteStore(home / "records.sqlite")
    await store.open()
    yield store
    await store.close()


async def ask(run: Run, *words: str):
    return await asyncio.to_thread(run, *words)


async def put(store: SQLiteStore, *, age: timedelta = timedelta(0), **changes) -> JobRecord:
    job = make_job_record(time=utc_now() - age, **changes)
    await store.insert_job(job, containers=job.job_input.num_containers)
    return job


async def test_why_says_what_a_job_waits_for(store: SQLiteStore, run: Run):
    job = await put(store, age=timedelta(hours=2))
    shown = await ask(run, "jobs", "why", job.id)
    assert shown.returncode == 0, shown.stderr
    assert f"Job {job.id} of {job.user} at local is created" in shown.stdout
    assert "No server holds its lease" in shown.stdout
    assert "longer than it should take" in shown.stdout
    assert "1 event (created) not acknowledged" in shown.stdout
    response = json.loads((await ask(run, "jobs", "why", job.id, "--json")).stdout)
    assert (response["driven"], response["unadopted"], response["site_trouble"]) == (
        False,
        False,
        None,
    )
    now = utc_now()
    await store.take_leases([job.id], "a-server", now=now, until=now + timedelta(minutes=5))
    assert json.loads((await ask(run, "jobs", "why", job.id, "--json")).stdout)["driven"] is True
    # Looking has taken nothing from that server.
    assert await store.take_leases([job.id], "another", now=now, until=now) == set()


async def test_a_job_that_does_not_exist(store: SQLiteStore, run: Run):
    for words in (("why",), ("retry",), ("fail", "--reason", "x")):
        shown = await ask(run, "jobs", *words, "none-such")
        assert shown.returncode == 1
        assert shown.stderr == "cts: No job with ID 'none-such' exists\n"


async def test_stuck_lists_jobs_that_have_waited_too_long(store: SQLiteStore, run: Run):
    fresh = await put(store)
    assert (await ask(run, "jobs", "stuck")).stdout == "nothing is stuck\n"
    old = await put(store, age=timedelta(hours=1))
    shown = await ask(run, "jobs", "stuck", "--json")
    assert shown.returncode == 1
    assert {row["job"] for row in json.loads(shown.stdout)} == {old.id}
    shown = await ask(run, "jobs", "stuck", "--for", "0s")
    assert {old.id, fresh.id} <= set(shown.stdout.split())


async def test_commands_name_what_a_job_waits_for(store: SQLiteStore, run: Run):
    job, _ = await put(store), await put(store)
    since = utc_now() - timedelta(minutes=7)
    await store.set_wait([job.id], JobWait(dependency="objects", since=since, error="S3 is silent"))
    sentence = f"the object store since {formatting.format_time(since)}, whose last error was: S3 is silent"
    shown = await ask(run, "jobs", "why", job.id)
    assert _without_durations(f"It waits for {sentence}") in _without_durations(shown.stdout)
    assert "It waits to be handed to its site" not in shown.stdout
    shown = await ask(run, "jobs", "stuck", "--json")
    (row,) = json.loads(shown.stdout)
    assert (row["job"], _without_durations(row["why"])) == (job.id, f"waits for {sentence}")
    shown = await ask(run, "sites", "check", "local")
    assert shown.returncode == 3
    assert f"wrong: waited for by 1 job: {sentence}" in _without_durations(shown.stdout)


def _without_durations(text: str) -> str:
    return re.sub(r" \(7 min[^)]*\)", "", text)


async def test_commands_name_an_object_store_that_does_not_answer(store: SQLiteStore, run: Run):
    job = await put(store)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        more = {
            "CTS_OBJECTS": "s3",
            "CTS_S3__URL": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "CTS_S3__ACCESS_KEY": "key",
            "CTS_S3__ACCESS_SECRET": "secret",
            "CTS_S3__TIMEOUT_S": "0.2",
        }
        why = await asyncio.to_thread(run, "jobs", "why", job.id, more=more)
        check = await asyncio.to_thread(run, "sites", "check", "local", more=more)
    assert "The object store cannot be used from here: s3.url: no S3 server answers" in why.stdout
    assert "Its site cannot be used" not in why.stdout
    assert check.returncode == 3
    assert "wrong: the object store cannot be used from here: s3.url" in check.stdout


async def test_fail_ends_a_job_and_its_containers_and_is_audited(store: SQLiteStore, run: Run):
    job = await put(store)
    shown = await ask(run, "jobs", "fail", job.id, "--reason", "the pool is gone")
    assert shown.returncode == 0, shown.stderr
    ended = await store.get_summary(job.id)
    assert (ended.state, ended.error) == (JobState.ERROR, "the pool is gone")
    assert set(await store.container_states(job.id)) == {JobState.ERROR}
    (entry,) = await store.audit(job.id)
    assert (entry.action, entry.reason) == ("fail", "the pool is gone")
    assert "(cts)" in entry.actor
    why = (await ask(run, "jobs", "why", job.id)).stdout
    assert "fail: the pool is gone" in why
    again = await ask(run, "jobs", "fail", job.id, "--reason", "x")
    assert again.returncode == 1
    assert "has ended already" in again.stderr
    assert len(await store.audit(job.id)) == 1


async def test_why_and_fail_reach_a_job_at_jaws(
    store: SQLiteStore, run: Run, jaws_sites: JAWSSites, minio: S3Server, tmp_path: Path
):
    nersc = jaws_sites.nersc
    for path in (LAYOUT.staging[Machine.DTNS], LAYOUT.refdata_root, LAYOUT.code_root):
        nersc.place(path).mkdir(parents=True, exist_ok=True)
    job = await put(store, cluster="perlmutter-jaws")
    begun = JobState.DOWNLOAD_SUBMITTED
    await store.transition(job.id, JobState.CREATED, begun, time=utc_now(), trans_id="1")
    more = settings_variables(jaws_settings(jaws_sites, minio, tmp_path))
    folder = nersc.place(LAYOUT.job(job.id))
    folder.mkdir(parents=True)
    (folder / "download-1.claim").write_text("7 on dtn01\n")
    why = await asyncio.to_thread(run, "jobs", "why", job.id, more=more)
    assert f"The folder of the job at NERSC is {LAYOUT.job(job.id)}" in why.stdout
    assert re.search(r"download-1\.claim of .* UTC: 7 on dtn01", why.stdout)
    words = ("jobs", "fail", job.id, "--reason", "x")
    shown = await asyncio.to_thread(run, *words, more=more)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    # Whatever tries to submit it later finds that claim.
    assert (nersc.place(LAYOUT.job(job.id)) / "submit-1.claim").is_file()


async def test_retry_of_a_job_that_fails(store: SQLiteStore, run: Run):
    # Its image is no program of this machine any more.
    job = await put(store)
    shown = await ask(run, "jobs", "retry", job.id)
    assert shown.returncode == 0, shown.stderr
    assert "is error" in shown.stdout
    assert [entry.action for entry in await store.audit(job.id)] == ["retry"]
    shown = await ask(run, "jobs", "retry", job.id)
    assert shown.returncode == 1
    assert "what has ended is not run again" in shown.stderr


async def test_retry_starts_nothing_in_test_mode(store: SQLiteStore, run: Run):
    job = await put(store)
    shown = await asyncio.to_thread(run, "jobs", "retry", job.id, more={"CTS_TEST_MODE": "true"})
    assert shown.returncode == 1
    assert "never started, because test_mode is on" in shown.stderr
    assert (await store.get_summary(job.id)).state is JobState.CREATED
    assert await store.audit(job.id) == []


async def test_retry_leaves_a_leased_job_to_its_server(store: SQLiteStore, run: Run):
    job = await put(store)
    now = utc_now()
    await store.take_leases([job.id], "a-server", now=now, until=now + timedelta(minutes=5))
    shown = await ask(run, "jobs", "retry", job.id)
    assert "nothing was done here" in shown.stdout
    assert (await store.get_summary(job.id)).state is JobState.CREATED


@pytest.mark.slow
async def test_retry_drives_a_job_while_no_server_is_up(environ: dict[str, str], run: Run):
    settings = load_settings(environ=environ)
    engine = Engine.from_settings(settings, JupyterIdentity("ana", "kernel-token"))

    async def one():
        yield b"x"

    await engine.start()
    await engine.files.write(ANA, "data/in/a", one(), content_type="text/plain", overwrite=True)
    await engine.images.register(ANA, "host/tool", ImageRegistration(executable=str(APPEND_RUN)))
    # A server that takes the job and ends before it does anything with it.
    for driver in engine._drivers.values():
        driver._task.cancel()
    params = {
        "environment": {"RAN": environ["CTS_HOME"] + "/ran", "NUMBER": "0"},
        "args": ["/output_files"],
    }
    submission = make_submission(files=["data/in/a"], image="host/tool", params=params)
    job_id = await engine.submissions.submit(ANA, submission)
    await engine.stop()
    shown = await ask(run, "jobs", "retry", job_id)
    assert shown.stdout.startswith("it was created, and is "), shown.stdout + shown.stderr
    async with asyncio.timeout(60):
        while "has ended" not in (await ask(run, "jobs", "retry", job_id)).stderr:
            await asyncio.sleep(0.1)
    assert "is complete" in (await ask(run, "jobs", "why", job_id)).stdout
    assert Path(environ["CTS_HOME"], "ran").read_text().count("\n") == 1


def test_other_commands(run: Run):
    assert json.loads(run("openapi").stdout)["info"]["title"] == "CDM Task Service"
    checked = run("sites", "check", "local")
    assert checked.returncode == 0, checked.stderr
    assert "it can be used" in checked.stdout
    for runtime in ("docker", "podman", "apptainer"):
        assert (
            f"{runtime} works: " in checked.stdout or f"{runtime} does not work: " in checked.stdout
        )
    assert "sites does not name kbase" in run("sites", "check", "kbase").stderr
    unknown = run("sites", "check", "mars")
    assert unknown.returncode == 2
    assert all(site in unknown.stderr for site in ("mars", "local", "kbase"))
    assert run("adopt").stdout == "no job waits to be adopted\n"
    assert run("adopt", "x", "--fail").returncode == 1
    assert run("jobs").returncode == 2
    unreachable = run("jobs", "stuck", more={"CTS_HOME": "/dev/null/x"})
    assert unreachable.returncode in (1, 3)
    assert "Traceback" not in unreachable.stderr


async def test_job_is_found_by_the_beginning_of_its_id(store: SQLiteStore, run: Run):
    job = await put(store)
    shown = await ask(run, "jobs", "why", job.id[:8])
    assert f"Job {job.id} of {job.user}" in shown.stdout, shown.stderr
    # No id that is made begins so.
    for end in "01":
        await put(store, id=f"zz{job.id[2:-1]}{end}")
    several = f"zz{job.id[2:8]}"
    refused = await ask(run, "jobs", "why", several)
    assert refused.returncode != 0
    assert f"More than one job may be meant by {several!r}: zz" in refused.stderr
    # A few letters are no id, also where they are those of one job alone.
    for no_id in ("yyyyyyyy", job.id[:7], ""):
        missing = await ask(run, "jobs", "why", no_id)
        assert missing.returncode != 0
        assert no_id in missing.stderr
