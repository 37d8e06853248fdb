"""Jobs from their submission to their end, as their owner sees them."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from cts_core import errors
from cts_core.engine.jobs import without_import
from cts_core.engine.logs import LogSpan
from cts_core.identity.identity import User
from cts_core.model.event import JobEvent, JobProgress
from cts_core.model.record import ContainerQuery
from cts_core.model.site import SiteName
from cts_core.sites.site import LogStream
from cts_core.states import JobState
from cts_core.why import NO_OUTPUTS, NON_ZERO_EXIT
from tests.harness.engine import EngineHarness
from tests.harness.factories import TO_COMPLETE, make_job_record, make_submission

BOB = User("bob")


async def log_text(
    harness: EngineHarness, job_id: str, number: int = 0, stream=LogStream.STDOUT, **span
) -> str:
    log = await harness.engine.logs.open(harness.user, job_id, number, stream, LogSpan(**span))
    return b"".join([piece async for piece in log.body]).decode()


@pytest.mark.slow
async def test_job_passes_every_state_and_its_outputs_are_verified(harness: EngineHarness):
    await harness.prepare("a", "b")
    # Long enough that its memory is looked at, also on a busy machine.
    long = {"environment": {"WORK": "1"}}
    job = await harness.wait_until_ended(await harness.submit(["a", "b"], params=long))
    assert [t.state for t in job.transition_times] == TO_COMPLETE
    assert job.output_file_count == 1
    (output,) = job.outputs or []
    assert output.file == "data/out/called.json"
    assert (await harness.engine.files.verify(harness.user, output)).checksum == "stored"
    called = json.loads(await harness.read(output.file))
    assert list(called["read"].values()) == ["a", "b"]
    assert job.cpu_hours
    assert job.max_memory
    assert job.logpath == f"cts-logs/container_logs/{job.id}"
    assert (await harness.engine.jobs.exit_codes(harness.user, job.id)).exit_codes == [0]


@pytest.mark.slow
async def test_every_parameter_type_with_500_files_in_20_containers(harness: EngineHarness):
    await harness.prepare()
    names = [f"data/in/{n // 25:02}/f {n:03}.txt" for n in range(500)]
    for n, name in enumerate(names):
        await harness.store(name, str(n).encode())
    files = [{"file": name, "data_id": f"ID {n}"} for n, name in enumerate(names)]

    async def run(out: str, args, environment=None, **changes):
        submitted = make_submission(
            files=files,
            num_containers=20,
            input_roots=["data/in"],
            output_dir=f"data/{out}",
            params={"args": args, "environment": environment or {}, "declobber": True},
            **changes,
        )
        return await harness.wait_until_ended(
            await harness.engine.submissions.submit(harness.user, submitted)
        )

    space = await run(
        "space", [{"type": "input_files", "input_files_format": "space_separated_list"}]
    )
    assert space.output_file_count == 20, space.error
    seen = []
    for number in range(20):
        called = json.loads(await harness.read(f"data/space/{number}/called.json"))
        assert len(called["read"]) == 25
        assert all(f"/{number:02}/f " in path for path in called["read"])
        seen += called["read"].values()
    assert sorted(map(int, seen)) == list(range(500))

    comma, repeat, ids, paths = await asyncio.gather(
        run(
            "comma",
            [
                "-i",
                {
                    "type": "input_files",
                    "input_files_format": "comma_separated_list",
                    "flag": "--in=",
                },
            ],
        ),
        run(
            "repeat",
            [{"type": "input_files", "input_files_format": "repeat_parameter", "flag": "-f"}],
            {
                "T_N": {
                    "type": "container_number",
                    "container_num_prefix": "c",
                    "container_num_suffix": "_x",
                }
            },
        ),
        run(
            "ids",
            [
                {
                    "type": "manifest_file",
                    "manifest_file_format": "data_ids",
                    "manifest_file_header": "id",
                }
            ],
        ),
        run("paths", [{"type": "manifest_file", "manifest_file_format": "files", "flag": "-m"}]),
    )
    assert {job.output_file_count for job in (comma, repeat, ids, paths)} == {20}
    called = json.loads(await harness.read("data/comma/3/called.json"))
    assert called["argv"][0] == "-i"
    assert called["argv"][1].startswith("--in=")
    assert called["argv"][1].count(",") == 24
    called = json.loads(await harness.read("data/repeat/7/called.json"))
    assert called["argv"][::2] == ["-f"] * 25
    assert called["environment"] == {"T_N": "c7_x"}
    called = json.loads(await harness.read("data/ids/1/called.json"))
    (manifest,) = called["read"].values()
    assert manifest.splitlines() == ["id", *(f"ID {n}" for n in range(25, 50))]
    called = json.loads(await harness.read("data/paths/2/called.json"))
    (manifest,) = called["read"].values()
    assert called["argv"][0] == "-m"
    assert len(manifest.splitlines()) == 25
    assert manifest.splitlines()[0].endswith("/02/f 050.txt")


@pytest.mark.slow
async def test_owner_sees_each_container_of_a_failed_job(harness: EngineHarness):
    await harness.prepare("a", "b", "c")
    job = await harness.wait_until_ended(
        await harness.submit(
            ["a", "b", "c"],
            num_containers=3,
            params={
                "declobber": True,
                "environment": {"FAIL": {"type": "container_number"}},
            },
        )
    )
    assert job.state == "error"
    assert job.error == NON_ZERO_EXIT
    assert job.outputs is None
    assert [t.state for t in job.transition_times][-3:] == [
        "error_processing_submitting",
        "error_processing_submitted",
        "error",
    ]
    containers = (await harness.engine.jobs.containers(harness.user, job.id)).containers
    assert [c.state for c in containers] == ["complete", "error", "error"]
    assert [c.exit_code for c in containers] == [0, 1, 2]
    assert [[f.file for f in c.inputs] for c in containers] == [
        [f"data/in/{name}"] for name in "abc"
    ]
    query = ContainerQuery(states=[JobState.ERROR], limit=1, outputs=False)
    page = await harness.engine.jobs.containers(harness.user, job.id, query)
    assert [c.number for c in page.containers] == [page.next] == [1]
    assert page.containers[0] == containers[1].model_copy(update={"inputs": None})
    rest = await harness.engine.jobs.containers(
        harness.user, job.id, dataclasses.replace(query, after=1, outputs=True)
    )
    assert (rest.containers, rest.next) == (containers[2:], None)
    preview = await harness.engine.jobs.preview(harness.user, job.id)
    assert preview.containers == {"complete": 1, "error": 2}
    (output,) = containers[0].outputs or []
    assert (output.file, len(output.crc64nvme or "")) == ("data/out/0/called.json", 12)
    for container in containers:
        times = [t.time for t in container.transition_times]
        assert times == sorted(times)
    assert "tool: to stderr" in await log_text(harness, job.id, 2, LogStream.STDERR)


@pytest.mark.slow
async def test_overwritten_outputs_are_named_in_a_warning(harness: EngineHarness):
    await harness.prepare("a", "b")
    job = await harness.wait_until_ended(await harness.submit(["a", "b"], num_containers=2))
    assert job.state == "complete"
    assert job.output_file_count == 1
    (warning,) = job.warnings or []
    assert "data/out/called.json" in warning
    assert "declobber" in warning
    (output,) = job.outputs or []
    assert (await harness.engine.files.verify(harness.user, output)).checksum == "stored"


@pytest.mark.slow
async def test_job_without_outputs_is_an_error(harness: EngineHarness):
    await harness.prepare("a")
    job = await harness.wait_until_ended(
        await harness.submit(["a"], params={"environment": {"NOTHING": "1"}})
    )
    assert (job.state, job.error) == ("error", NO_OUTPUTS)


async def test_jobs_of_others_are_forbidden(harness: EngineHarness):
    await harness.prepare("a")
    job_id = await harness.submit(["a"])
    match = f"User bob may not access job {job_id}"
    jobs = harness.engine.jobs
    for call in (jobs.get, jobs.status, jobs.containers, jobs.exit_codes, jobs.cancel):
        with pytest.raises(errors.UnauthorizedError, match=match):
            await call(BOB, job_id)
    with pytest.raises(errors.UnauthorizedError, match=match):
        await harness.engine.logs.open(BOB, job_id, 0, LogStream.STDOUT)
    with pytest.raises(errors.NoSuchJobError, match="No job with ID 'nope' exists"):
        await jobs.get(harness.user, "nope")


@pytest.mark.slow
async def test_logs_in_every_state(harness: EngineHarness):
    await harness.prepare("a", "b")
    job_id = await harness.submit(
        ["a", "b"], num_containers=2, cpus=2, params={"environment": {"WORK": "1"}}
    )
    open_log = harness.engine.logs.open
    with pytest.raises(errors.NoLogsError, match=f"Job ID {job_id} has no logs available"):
        await open_log(harness.user, job_id, 1, LogStream.STDOUT)
    with pytest.raises(errors.IllegalParameterError, match=f"must be < 2 for job {job_id}"):
        await open_log(harness.user, job_id, 2, LogStream.STDOUT)
    async with asyncio.timeout(20):
        while True:
            try:
                log = await open_log(harness.user, job_id, 0, LogStream.STDOUT)
            except errors.NoLogsError:
                await asyncio.sleep(0.05)
            else:
                break
    assert not log.ended
    assert await log_text(harness, job_id) == "tool: start\n"
    assert await log_text(harness, job_id, seek=12) == ""
    await harness.wait_until_ended(job_id)
    assert await log_text(harness, job_id, seek=6, length=3) == "sta"
    with pytest.raises(errors.IllegalParameterError, match="seek"):
        await open_log(harness.user, job_id, 0, LogStream.STDOUT, LogSpan(seek=12))
    assert await log_text(harness, job_id, tail=4) == "art\n"
    # Once the site's copy is gone, the stored one is read.
    site = harness.engine.sites.get(SiteName.LOCAL)
    await site.clean(job_id)
    assert await log_text(harness, job_id) == "tool: start\n"


async def to_complete(events: AsyncIterator[JobEvent | JobProgress]) -> list[JobEvent]:
    """Return the events that a subscriber gets until the job is complete."""
    seen: list[JobEvent] = []
    async with asyncio.timeout(30):
        while not seen or seen[-1].state is not JobState.COMPLETE:
            event = await anext(events)
            if isinstance(event, JobEvent):
                seen.append(event)
    return seen


async def test_events_come_in_order_and_again_after_a_resume(harness: EngineHarness):
    await harness.prepare("a")
    async with harness.engine.hub.subscribe("ana") as events:
        job_id = await harness.submit(["a"])
        seen = await to_complete(events)
    assert [event.state for event in seen] == TO_COMPLETE
    async with harness.engine.hub.subscribe(
        "ana", job_id=job_id, after=seen[2].recorded_at
    ) as events:
        again = await to_complete(events)
    assert {e.trans_id for e in again} >= {e.trans_id for e in seen[3:]}
    await harness.wait_until_events_sent()


async def test_cleaner_removes_files_of_old_jobs(harness: EngineHarness, tmp_path):
    await harness.prepare("a")
    job = await harness.wait_until_ended(await harness.submit(["a"]))
    folder = tmp_path / "home" / "local" / "jobs" / job.id
    assert folder.exists()
    assert await harness.engine._cleaner.clean_jobs() == 0
    harness.engine._cleaner._age = timedelta(0)
    assert await harness.engine._cleaner.clean_jobs() == 1
    assert not folder.exists()
    assert await harness.engine._cleaner.clean_jobs() == 0


@pytest.mark.parametrize(
    ("state", "meta", "keys"),
    [
        (JobState.COMPLETE, {"a": 1}, ["a", "cse_event_processing_no_operation"]),
        (JobState.CANCELED, {}, ["cse_event_processing_no_operation"]),
        (JobState.CREATED, {}, []),
        (JobState.COMPLETE, {"cse_event_processing_complete": "x"}, ["cse_event_processing_complete"]),
    ],
)  # fmt: skip
def test_ended_job_is_marked_as_not_imported_once(state, meta, keys):
    job = make_job_record().model_copy(update={"state": state, "admin_meta": meta})
    marked = without_import(job)
    assert list(marked.admin_meta) == keys
    assert without_import(marked) is marked or state is JobState.CREATED
