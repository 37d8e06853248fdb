"""Resubmissions, and the merged outputs of a lineage."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import timedelta
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cts_core import errors
from cts_core.engine import lineage as module
from cts_core.engine.outputs import MAX_OUTPUTS, MAX_REPLACED, MergedOutputs
from cts_core.identity.identity import User
from cts_core.model.job import S3File
from cts_core.model.record import ContainerRecord, ContainerTransition, JobRecord
from cts_core.model.resubmission import JobOutput, Resubmission
from cts_core.states import JobState
from tests.harness.engine import EngineHarness, submission
from tests.harness.factories import CRC, NOON, make_job_record

BOB = User("bob")
OTHER_CRC = "AAAAAAAAAAA="
# Container n ends with exit code n: of three, one is good; of the two others again, one; of the last, it.
FAILING = {
    "args": [{"type": "input_files", "input_files_format": "space_separated_list"}],
    "environment": {
        "FAIL": {"type": "container_number"},
        "OUT": {"type": "container_number", "container_num_prefix": "o"},
    },
}


async def outputs(harness: EngineHarness, job_id: str, *, lineage: bool = True, **page):
    page = {"after": None, "limit": 100, **page}
    return await harness.engine.outputs.page(harness.user, job_id, lineage=lineage, **page)


async def resubmit(harness: EngineHarness, job_id: str, key: str | None = None, **changes) -> str:
    body = Resubmission(**changes)
    return await harness.engine.resubmissions.submit(harness.user, job_id, body, key)


@pytest.mark.slow
async def test_failed_containers_are_resubmitted_until_all_outputs_exist(harness: EngineHarness):
    await harness.prepare(*"abcdefg")
    wanted = submission(list("abcdefg"), num_containers=3, params=FAILING, labels={"study": "x"})
    first = await harness.wait_until_ended(
        await harness.engine.submissions.submit(harness.user, wanted)
    )
    assert first.state == "error"
    assert (await outputs(harness, first.id, lineage=False)).open_inputs == 4
    jobs = [first]
    for folder, files in (("data/out-2/", "defg"), ("data/out-3/", "fg")):
        checked = await harness.engine.resubmissions.check(
            harness.user, jobs[-1].id, Resubmission(failed=True)
        )
        again = await harness.wait_until_ended(await resubmit(harness, jobs[-1].id, failed=True))
        planned = [file.file for container in checked.containers for file in container.files]
        assert planned == [file.file for file in again.job_input.files]
        assert (checked.output_dir, len(checked.containers)) == (
            again.job_input.output_dir,
            again.job_input.num_containers,
        )
        assert again.parent_id == jobs[-1].id
        assert again.labels == {"study": "x"}
        assert again.job_input.output_dir == folder
        assert [f.file for f in again.job_input.files] == [f"data/in/{name}" for name in files]
        assert all(file.crc64nvme for file in again.job_input.files)
        jobs.append(again)
    assert jobs[-1].state == "complete"
    for job in jobs:
        whole = await outputs(harness, job.id)
        assert whole.jobs == [job.id for job in jobs]
        assert whole.open_inputs == 0
        assert [(o.file, o.job_id, o.container) for o in whole.outputs] == [
            ("data/out-2/o0", jobs[1].id, 0),
            ("data/out-3/o0", jobs[2].id, 0),
            ("data/out/o0", jobs[0].id, 0),
        ]
        assert whole.outputs[1].crc64nvme == (jobs[2].outputs or [])[0].crc64nvme
    page = await outputs(harness, first.id, limit=2)
    assert page.next == "data/out-3/o0"
    rest = await outputs(harness, first.id, limit=2, after=page.next)
    assert [o.file for o in page.outputs + rest.outputs] == [o.file for o in whole.outputs]
    assert rest.next is None
    own = await outputs(harness, jobs[1].id, lineage=False)
    assert (own.jobs, own.open_inputs) == ([jobs[1].id], 2)
    assert [o.file for o in own.outputs] == ["data/out-2/o0"]


@pytest.mark.slow
async def test_chosen_containers_are_resubmitted_of_those_that_failed(harness: EngineHarness):
    await harness.prepare(*"abcd")
    wanted = submission(list("abcd"), num_containers=4, params=FAILING)
    first = await harness.wait_until_ended(
        await harness.engine.submissions.submit(harness.user, wanted)
    )
    again = await resubmit(harness, first.id, failed=True, containers=[3, 1], memory="60MB")
    job = await harness.engine._store.get_job(again)
    assert [file.file for file in job.job_input.files] == ["data/in/b", "data/in/d"]
    assert (job.job_input.num_containers, job.job_input.memory) == (2, 60_000_000)
    await harness.wait_until_ended(again)
    # The other ones wait for theirs.
    assert (await outputs(harness, first.id)).open_inputs == 2
    for number in (0, 4):
        with pytest.raises(
            errors.IllegalParameterError, match=f"Container {number} of job .* completed"
        ):
            await resubmit(harness, first.id, failed=True, containers=[1, number])
    with pytest.raises(errors.IllegalParameterError, match="only of what failed"):
        await resubmit(harness, first.id, containers=[1])


@pytest.mark.slow
async def test_check_warns_of_no_more_of_what_was_too_little(harness: EngineHarness):
    await harness.prepare(*"abcdefgh")
    # The exit code of container 7 says that it was killed.
    killed = {"environment": {"FAIL": {"type": "container_number", "container_num_prefix": "13"}}}
    wanted = submission(list("abcdefgh"), num_containers=8, memory="60MB", params=killed)
    job = await harness.wait_until_ended(
        await harness.engine.submissions.submit(harness.user, wanted)
    )
    assert job.state == "error"

    async def warnings(**changes) -> list[str]:
        body = Resubmission(failed=True, **changes)
        return (await harness.engine.resubmissions.check(harness.user, job.id, body)).warnings

    assert any("memory with 60 MB" in warning for warning in await warnings())
    assert any("memory with 60 MB" in warning for warning in await warnings(containers=[7]))
    assert not any("memory with" in warning for warning in await warnings(memory="70MB"))
    assert not any("memory with" in warning for warning in await warnings(containers=[0]))


@pytest.mark.slow
async def test_whole_job_is_resubmitted_with_changes(harness: EngineHarness):
    await harness.prepare("a", "b")
    first = await harness.submit(["a", "b"])
    changes = {"memory": "60MB", "runtime": 90, "output_dir": "data/mine"}
    again = await harness.wait_until_ended(await resubmit(harness, first, **changes))
    wanted = (await harness.wait_until_ended(first)).job_input.model_copy(
        update={"memory": 60_000_000, "runtime": timedelta(seconds=90), "output_dir": "data/mine/"}
    )
    assert again.job_input == wanted
    assert [o.job_id for o in (await outputs(harness, first)).outputs] == [again.id]


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"failed": True}, {"output_dir": "data/mine/"}])
async def test_changed_inputs_are_refused_or_refreshed(harness: EngineHarness, changes: dict):
    await harness.prepare("a")
    first = await harness.submit(["a"], params={"environment": {"FAIL": "1"}})
    await harness.wait_until_ended(first)
    await harness.store("data/in/a", b"mended")
    with pytest.raises(
        errors.ChecksumMismatchError, match=f"'data/in/a' has changed since job {first}"
    ):
        await resubmit(harness, first, **changes)
    with pytest.raises(errors.ChecksumMismatchError, match="with refresh_inputs"):
        await harness.engine.resubmissions.check(harness.user, first, Resubmission(**changes))
    again = await resubmit(harness, first, refresh_inputs=True, **changes)
    (refreshed,) = (await harness.engine.jobs.get(harness.user, again)).job_input.files
    (before,) = (await harness.engine.jobs.get(harness.user, first)).job_input.files
    assert refreshed.crc64nvme not in (None, before.crc64nvme)


@pytest.mark.slow
async def test_numbered_outputs_of_what_failed_never_replace_those_of_other_inputs(
    harness: EngineHarness,
):
    await harness.prepare("a", "b")
    wanted = submission(["a", "b"], num_containers=2, params=FAILING)
    first = await harness.wait_until_ended(
        await harness.engine.submissions.submit(harness.user, wanted)
    )
    for folder in ("data/out", "data/out/"):
        with pytest.raises(
            errors.IllegalParameterError,
            match=f"in {folder}.* would replace outputs that job {first.id} has of other inputs",
        ):
            await resubmit(harness, first.id, failed=True, output_dir=folder)
    # With all of its inputs, the same numbers are of the same inputs.
    await harness.wait_until_ended(await resubmit(harness, first.id, output_dir="data/out/"))
    again = await resubmit(harness, first.id, failed=True, output_dir="data/output/")
    with pytest.raises(errors.IllegalParameterError, match=f"that job {again} has"):
        await resubmit(harness, first.id, failed=True, output_dir="data/output/")
    await harness.wait_until_ended(again)


async def test_key_of_an_earlier_version_gives_its_resubmission(harness: EngineHarness):
    await harness.prepare("a")
    first = await harness.submit(["a"])
    again = await resubmit(harness, first, "key")
    earlier = '{"failed":false,"memory":null,"runtime":null,"output_dir":null}'
    found = await harness.engine._store.find_idempotent("ana", "key")
    assert found is not None
    assert (found.id, found.body_hash) == (
        again,
        sha256(f"{first} {earlier}".encode()).hexdigest(),
    )


async def test_output_folders_of_the_lineage_are_not_reused(harness: EngineHarness):
    await harness.prepare("a")
    await harness.store("data/out-2/old")
    first = await harness.submit(["a"])
    # Nothing is in their folders yet.
    ids = [await resubmit(harness, first) for _ in range(2)]
    ids.append(await resubmit(harness, ids[0]))
    jobs = [await harness.engine.jobs.get(harness.user, job_id) for job_id in ids]
    assert [job.job_input.output_dir for job in jobs] == [f"data/out-{n}/" for n in (3, 4, 5)]


@pytest.mark.slow
async def test_concurrent_resubmissions_have_different_folders(harness: EngineHarness):
    await harness.prepare("a")
    first = await harness.submit(["a"])
    ids = await asyncio.gather(*(resubmit(harness, first) for _ in range(5)))
    jobs = [await harness.engine.jobs.get(harness.user, job_id) for job_id in ids]
    folders = sorted(job.job_input.output_dir for job in jobs)
    assert folders == [f"data/out-{n}/" for n in range(2, 7)]
    for job_id in ids:
        assert (await harness.wait_until_ended(job_id)).state == "complete"


@pytest.mark.slow
async def test_losing_the_race_for_a_folder_does_not_repeat_the_checks(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
):
    await harness.prepare("a")
    first = await harness.submit(["a"])
    headed: list[Sequence[str]] = []
    head = harness.engine.submissions._objects.head

    async def counted(paths: Sequence[str]) -> object:
        headed.append(paths)
        if len(headed) == 1:
            # While it is checked another takes the folder that it has chosen.
            await resubmit(harness, first)
        return await head(paths)

    monkeypatch.setattr(harness.engine.submissions._objects, "head", counted)
    again = await harness.engine.jobs.get(harness.user, await resubmit(harness, first))
    assert again.job_input.output_dir == "data/out-3/"
    assert len(headed) == 2


@pytest.mark.slow
async def test_idempotency_key_gives_one_resubmission(harness: EngineHarness):
    await harness.prepare("a")
    first = await harness.submit(["a"])
    again = await resubmit(harness, first, "key")
    assert await resubmit(harness, first, "key") == again
    for job_id, changes in ((again, {}), (first, {"memory": "60MB"})):
        with pytest.raises(errors.IllegalParameterError, match="was used for another request"):
            await resubmit(harness, job_id, "key", **changes)


@pytest.mark.slow
async def test_resubmissions_that_are_refused(harness: EngineHarness):
    await harness.prepare("a")
    job_id = await harness.submit(["a"], params={"environment": {"WORK": "60"}})
    with pytest.raises(errors.JobStateError, match="wait for its end, or cancel it"):
        await resubmit(harness, job_id, failed=True)
    await harness.engine.jobs.cancel(harness.user, job_id)
    await harness.wait_until_ended(job_id)
    with pytest.raises(errors.UnauthorizedError):
        await harness.engine.resubmissions.submit(BOB, job_id, Resubmission())
    with pytest.raises(errors.UnauthorizedError):
        await harness.engine.outputs.page(BOB, job_id, lineage=True, after=None, limit=1)
    with pytest.raises(errors.NoSuchJobError):
        await resubmit(harness, "nope")
    again = await resubmit(harness, job_id, failed=True)
    await harness.engine.jobs.cancel(harness.user, again)
    done = await harness.wait_until_ended(await harness.submit(["a"]))
    with pytest.raises(errors.IllegalParameterError, match="No container of job"):
        await resubmit(harness, done.id, failed=True)
    await harness.store("data/in/a", b"changed")
    with pytest.raises(errors.ChecksumMismatchError):
        await resubmit(harness, done.id)


@pytest.mark.slow
async def test_lineage_is_bounded(harness: EngineHarness, monkeypatch):
    await harness.prepare("a")
    monkeypatch.setattr(module, "MAX_LINEAGE", 3)
    monkeypatch.setattr("cts_core.engine.outputs.MAX_LINEAGE", 3)
    ids = [await harness.submit(["a"])]
    for n in range(2):
        ids.append(await resubmit(harness, ids[-1], output_dir=f"data/{n}"))
    assert (await outputs(harness, ids[1])).jobs == ids
    ids.append(await resubmit(harness, ids[0], output_dir="data/x"))
    for job_id in ids:
        with pytest.raises(errors.IllegalParameterError, match="more than 3 jobs"):
            await outputs(harness, job_id)
        assert (await outputs(harness, job_id, lineage=False)).jobs == [job_id]


# -- pure --


def record(number: int, state: JobState, *outputs: str, crc: str = CRC) -> ContainerRecord:
    step = ContainerTransition(state=state, time=NOON)
    files = [S3File(file=path, crc64nvme=crc) for path in outputs]
    return ContainerRecord(
        id="x", sub_id=number, state=state, transition_times=[step], outputs=files or None
    )


def job(files: Iterable[str], containers: int = 1, **changes) -> JobRecord:
    inputs = [{"file": f"data/in/{name}"} for name in files]
    made = make_job_record(files=inputs, num_containers=containers)
    return made.model_copy(update=changes)


COMPLETE, ERROR = JobState.COMPLETE, JobState.ERROR


def by_path(merged: MergedOutputs) -> dict[str, JobOutput]:
    outputs, _ = merged.page(None, MAX_OUTPUTS)
    return {output.file: output for output in outputs}


def test_the_latest_job_wins_by_input():
    merged = MergedOutputs()
    newer, older = job("bc", 2, state=ERROR), job("abcd", 4, state=ERROR)
    merged.add_older(newer, [record(0, COMPLETE, "new/b"), record(1, ERROR)])
    merged.add_older(
        older,
        [
            record(0, COMPLETE, "old/a"),
            record(1, COMPLETE, "old/b"),
            record(2, COMPLETE, "old/c"),
            record(3, ERROR),
        ],
    )
    assert {path: o.job_id for path, o in by_path(merged).items()} == {
        "new/b": newer.id,
        "old/a": older.id,
        "old/c": older.id,
    }
    assert merged.open_inputs == 1


def test_the_latest_job_wins_by_path():
    merged = MergedOutputs()
    newer, older = job("b", state=COMPLETE), job("a", state=COMPLETE)
    for member, crc in ((newer, CRC), (older, OTHER_CRC)):
        merged.add_older(member, [record(0, COMPLETE, "same/o", crc=crc)])
    assert by_path(merged) == {
        "same/o": JobOutput(file="same/o", crc64nvme=CRC, job_id=newer.id, container=0)
    }
    assert merged.replaced == [
        JobOutput(file="same/o", crc64nvme=OTHER_CRC, job_id=older.id, container=0)
    ]


def test_outputs_of_the_same_inputs_again_replace_nothing():
    merged = MergedOutputs()
    for _ in range(2):
        merged.add_older(
            job("ab", 2, state=ERROR), [record(0, COMPLETE, "out/o0"), record(1, ERROR)]
        )
    assert merged.replaced == []


def test_number_of_replaced_outputs_that_are_named_is_bounded():
    merged = MergedOutputs()
    paths = [f"out/o{n}" for n in range(MAX_REPLACED + 1)]
    for name in "ab":
        merged.add_older(job(name, state=COMPLETE), [record(0, COMPLETE, *paths)])
    assert [output.file for output in merged.replaced] == paths[:MAX_REPLACED]


def test_checksum_of_an_overwritten_path_comes_from_the_job():
    merged = MergedOutputs()
    kept = [S3File(file="out/o", crc64nvme=OTHER_CRC)]
    merged.add_older(
        job("ab", 2, state=COMPLETE, outputs=kept),
        [record(0, COMPLETE, "out/o", crc=OTHER_CRC), record(1, COMPLETE, "out/o")],
    )
    assert by_path(merged)["out/o"].crc64nvme == OTHER_CRC


def test_checksum_of_an_overwritten_path_of_a_failed_job_is_unknown():
    merged = MergedOutputs()
    merged.add_older(
        job("abc", 3, state=ERROR),
        [
            record(0, COMPLETE, "out/o", "out/a", crc=CRC),
            record(1, ERROR),
            record(2, COMPLETE, "out/o", crc=OTHER_CRC),
        ],
    )
    assert {path: o.crc64nvme for path, o in by_path(merged).items()} == {
        "out/a": CRC,
        "out/o": None,
    }


def test_completed_job_without_container_records():
    merged = MergedOutputs()
    whole = job("ab", 2, state=COMPLETE, outputs=[S3File(file="out/o", crc64nvme=CRC)])
    merged.add_older(whole, [])
    assert by_path(merged)["out/o"] == JobOutput(file="out/o", crc64nvme=CRC, job_id=whole.id)
    assert merged.open_inputs == 0


@pytest.mark.slow
@given(
    containers=st.integers(1, 6),
    larger=st.integers(0, 6),
    generations=st.lists(
        st.tuples(st.booleans(), st.sets(st.integers(0, 5))), min_size=1, max_size=5
    ),
)
def test_latest_completed_container_wins(containers, larger, generations):
    # As files are split: the first few containers have one more than the others.
    sizes = [1 + (number < larger) for number in range(containers)]
    files = [[f"{n}-{k}" for k in range(size)] for n, size in enumerate(sizes)]
    latest: dict[int, str] = {}
    lineage = []
    parts = list(range(len(files)))
    for generation, (only_failed, completed) in enumerate(generations):
        if only_failed and lineage:
            parts = [n for n in parts if n not in lineage[-1][1]] or parts
        made = job([name for n in parts for name in files[n]], len(parts), state=ERROR)
        records = []
        for number, n in enumerate(parts):
            path = f"out{generation}/{n}"
            done = n in completed
            records.append(record(number, COMPLETE if done else ERROR, *[path][: int(done)]))
            if done:
                latest[n] = path
        lineage.append((made, completed, records))
    merged = MergedOutputs()
    for made, _, records in reversed(lineage):
        merged.add_older(made, records)
    assert set(by_path(merged)) == set(latest.values())
    assert merged.open_inputs == sum(len(files[n]) for n in range(len(files)) if n not in latest)
