"""Tests of the site on a real pool: submission, tracking, and reports."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from cts_core.errors import IllegalParameterError, UnavailableError, UnsupportedError
from cts_core.identity.identity import User
from cts_core.model.record import JobRecord
from cts_core.sites.htcondor import history, site, tracker
from cts_core.sites.htcondor.classads import SUPERSEDED_REASON
from cts_core.sites.htcondor.constraints import for_named_jobs
from cts_core.sites.htcondor.submit_description import itemdata, submit_description
from cts_core.states import JobState
from tests.harness import htcondor as pool_harness
from tests.harness.factories import make_image
from tests.harness.htcondor import TIMEOUT_SECONDS, HTCondorHarness
from tests.services.condor import CPUS, DOMAIN, INITIALDIR, MEMORY_MIB

pytestmark = pytest.mark.slow
S = JobState
HOLD_ON = "while :; do sleep 0.1; done"
RULES = "which 1 of 1 nodes have, but by the pool's rules"


async def test_job_is_one_cluster_with_a_numbered_process_per_container(
    harness: HTCondorHarness,
) -> None:
    job = await harness.start(
        "env > $name.out; sleep $CONTAINER_NUMBER", num_containers=2, memory="100MiB", user="ana_1"
    )
    status = await harness.site.runner_status(job, 1)
    assert [status["ClusterId"]] == job.htcondor_details.cluster_id
    assert (status["CTSJobID"], status["CTSContainerNumber"]) == (job.id, 1)
    assert (status["AccountingGroup"], status["ConcurrencyLimits"]) == ("ana_1", "ana_1")
    assert (status["RequestMemory"], status["WantGracefulRemoval"]) == (100, True)
    json.dumps(status)
    reports = await harness.until_ended(job)
    # Their worker exited with 0 without a report: what became of them is unknown.
    assert {n: [step.state for step in r.steps] for n, r in reports.items()} == {
        0: [S.ERROR],
        1: [S.ERROR],
    }
    assert "without a word" in (reports[0].outcome.error or "")
    work = harness.pool.pool / "work"
    for number in range(2):
        words = (work / f"cts-{job.id}-{number}-container.out").read_text().splitlines()
        assert {f"JOB_ID={job.id}", f"CONTAINER_NUMBER={number}"} <= set(words)
        assert "SERVICE_ROOT_URL=http://cts.invalid/cts" in words
    ended = await harness.site.runner_status(job, 1)
    assert (ended["JobStatus"], ended["ExitCode"]) == (4, 0)
    measured = await harness.site.measured(job, {1})
    assert measured.keys() == {1}
    assert measured[1].wall_seconds


async def test_start_is_idempotent(harness: HTCondorHarness) -> None:
    job = await harness.start("true", num_containers=2)
    assert await harness.submit(job) == job.htcondor_details
    await harness.until_ended(job)
    # All of it has left the queue; a start that was not recorded is found in the history.
    other = harness.make_site(executable_url="http://127.0.0.1:9/none")
    harness.site, site = other, harness.site
    await site.close()
    assert await harness.submit(job) == job.htcondor_details


async def test_without_claims_the_lower_of_two_clusters_stays(
    harness: HTCondorHarness,
) -> None:
    job = await harness.start(HOLD_ON)
    # Another server queried before the first had submitted.
    second = await harness.site._bindings.call(
        "submit",
        description=submit_description(job, harness.site._setup),
        itemdata=[{"container_number": "0"}],
    )
    (first,) = job.htcondor_details.cluster_id
    assert second > first
    await _until_left(harness, job, {f"{first}.0"})
    assert await harness.submit(job) == job.htcondor_details


async def test_claimants_of_two_clusters_stay(harness: HTCondorHarness) -> None:
    job = await harness.start_own(HOLD_ON, num_containers=3)
    (first,) = job.htcondor_details.cluster_id
    second = await harness.site._submit(job)
    states = {job.id: [S.DOWNLOAD_SUBMITTED] * 3}
    # Any of them may still claim.
    for _ in range(3):
        assert await harness.ask(states) == {}
    both = {f"{cluster}.{number}" for cluster in (first, second) for number in range(3)}
    assert await harness.processes(job) == both
    harness.supplies.claims = {0: f"{second}.0", 1: f"{first}.1"}

    await _until_left(harness, job, both - {f"{first}.0", f"{second}.1"})
    harness.supplies.claims = {**harness.supplies.claims, 2: f"{second}.2"}
    await _until_left(harness, job, {f"{second}.0", f"{first}.1", f"{second}.2"})
    # Superseded processes are not reported.
    for number, cluster in ((0, second), (1, first), (2, second)):
        assert (await harness.site.runner_status(job, number))["ClusterId"] == cluster


async def test_idle_duplicates_are_removed_once_their_containers_have_ended(
    harness: HTCondorHarness,
) -> None:
    job = await harness.start_own("true", num_containers=3)
    (first,) = job.htcondor_details.cluster_id
    too_large = {"request_cpus": str(CPUS + 1)}
    second = await harness.site._bindings.call(
        "submit",
        description=submit_description(job, harness.site._setup) | too_large,
        itemdata=itemdata(job),
    )
    waits = [f"{second}.{number}" for number in range(3)]

    async def until_left(processes: set[str]) -> None:
        async def is_so() -> bool:
            return await harness.processes(job) == processes

        await harness.until(is_so)

    await until_left(set(waits))
    states = [S.COMPLETE, S.COMPLETE, S.ERROR]
    # The last has no known claimant.
    harness.supplies.claims = {0: f"{first}.0", 1: f"{second}.1"}
    assert await harness.ask({job.id: [*states[:2], S.JOB_SUBMITTED]}) == {}
    assert await harness.processes(job) == set(waits)
    assert await harness.ask({job.id: states}) == {}
    await until_left(set(waits[1:]))


async def test_partly_superseded_start_is_completed(harness: HTCondorHarness) -> None:
    job = await harness.start_own(HOLD_ON, num_containers=2)
    (first,) = job.htcondor_details.cluster_id
    lost = f"ClusterId == {first} && ProcId == 1"
    await harness.site._bindings.call(
        "act", action="Remove", constraint=lost, reason=SUPERSEDED_REASON
    )
    first, second = (await harness.submit(job)).cluster_id
    harness.supplies.claims = {0: f"{first}.0"}
    await _until_left(harness, job, {f"{first}.0", f"{second}.1"})
    assert (await harness.submit(job)).cluster_id == [first, second]


async def _until_left(harness: HTCondorHarness, job: JobRecord, processes: set[str]) -> None:
    """Poll until the queue has exactly these processes; expect no report."""

    async def is_so() -> bool:
        states = [S.DOWNLOAD_SUBMITTED] * job.job_input.num_containers
        assert await harness.ask({job.id: states}) == {}
        return await harness.processes(job) == processes

    await harness.until(is_so)


async def test_failed_worker_is_reported_with_the_pools_reason(harness: HTCondorHarness) -> None:
    job = await harness.start("exit 3")
    (report,) = (await harness.until_ended(job, S.JOB_SUBMITTED)).values()
    assert [step.state for step in report.steps] == [S.ERROR]
    assert "failed before it could say why" in (report.outcome.error or "")
    assert "OnExitHold" in (report.outcome.admin_error or "")
    assert (await harness.site.runner_status(job, 0))["JobStatus"] == 5


async def test_changed_script_is_not_run(harness: HTCondorHarness) -> None:
    harness.supplies.appended = b"\n"
    job = await harness.start_own(f"touch {INITIALDIR}/ran-$JOB_ID")
    (report,) = (await harness.until_ended(job)).values()
    # The files to transfer back existed: the hold is for the exit code.
    assert "failed before it could say why" in (report.outcome.error or "")
    (log,) = harness.pool.pool.glob(f"spool/*/*/*/cts-{job.id}-0.err")
    assert "not what the job was submitted with" in log.read_text().splitlines()[-1]
    assert not (harness.pool.pool / "work" / f"ran-{job.id}").exists()
    harness.supplies.appended = b""
    job = await harness.start_own(f"touch {INITIALDIR}/ran-$JOB_ID")
    await harness.until_ended(job)
    assert (harness.pool.pool / "work" / f"ran-{job.id}").exists()


async def test_idle_container_runs_the_worker_of_its_submission(
    harness: HTCondorHarness,
) -> None:
    full = await harness.start(HOLD_ON, cpus=CPUS)
    await harness.until_running(full)
    waits = await harness.start_own("echo old > /tmp/$JOB_ID")
    await harness.run_own("echo new > /tmp/$JOB_ID")  # as a server of another release
    after = harness.job()
    await harness.submit(after)
    await harness.site.cancel(full.id)
    ran = {}
    for job in (waits, after):
        await harness.until_ended(job)
        ran[job.id] = (harness.pool.pool / "work" / job.id).read_text()
    assert ran == {waits.id: "old\n", after.id: "new\n"}


async def test_input_that_cannot_be_fetched_is_retried(
    harness: HTCondorHarness, monkeypatch
) -> None:
    monkeypatch.setattr(tracker, "RELEASE_SECONDS", 0.0)
    harness.settings["archive_url"] = f"{harness.nodes.url}/none.tgz"
    job = await harness.start("true")
    (report,) = (await harness.until_ended(job)).values()
    assert "could not fetch" in (report.outcome.error or "")
    assert (await harness.site.runner_status(job, 0))["NumHolds"] == tracker.RELEASES + 1


async def test_input_that_can_be_fetched_later_runs(harness: HTCondorHarness, monkeypatch) -> None:
    monkeypatch.setattr(tracker, "RELEASE_SECONDS", 0.0)
    harness.settings["archive_url"] = f"{harness.nodes.url}/late.tgz"
    job = await harness.start("true")

    async def is_held() -> bool:
        return (await harness.site.runner_status(job, 0)).get("JobStatus") == 5

    await harness.until(is_held)
    monkeypatch.setattr(tracker, "RELEASE_SECONDS", 3600.0)
    assert harness.site.waits_for(job) is None
    await harness.ask({job.id: [S.DOWNLOAD_SUBMITTED]})
    assert (harness.site.waits_for(job) or "").startswith("On hold at the site: the node could not")
    monkeypatch.setattr(tracker, "RELEASE_SECONDS", 0.0)
    (harness.nodes.folder / "late.tgz").write_bytes(b"")
    (report,) = (await harness.until_ended(job)).values()
    assert "without a word" in (report.outcome.error or "")


async def test_removed_container(harness: HTCondorHarness) -> None:
    job = await harness.start(HOLD_ON)
    await harness.until_running(job)
    await harness.site._bindings.call(
        "act",
        action="Remove",
        constraint=f'CTSJobID == "{job.id}"',
        reason="enough",
    )
    (report,) = (await harness.until_ended(job, S.JOB_SUBMITTED)).values()
    assert "removed from the pool's queue" in (report.outcome.error or "")
    assert "enough" in (report.outcome.admin_error or "")


async def test_unknown_container(harness: HTCondorHarness, monkeypatch) -> None:
    monkeypatch.setattr(tracker, "VANISHED_SECONDS", 0.5)
    (report,) = (await harness.until_ended(harness.job(), S.JOB_SUBMITTED)).values()
    assert "does not know this container" in (report.outcome.error or "")


async def test_edited_ad(harness: HTCondorHarness) -> None:
    # The ad of a running container would be overwritten.
    job = await harness.start(HOLD_ON, cpus=CPUS + 1)
    schedd, ours = harness.pool.schedd(), for_named_jobs([job.id])
    await harness.site._bindings.call("act", action="Hold", constraint=ours, reason="looked at")
    for name, value in (("RemoteUserCpu", 'real("NaN")'), ("MemoryUsage", '"much"')):
        harness.pool.retry(functools.partial(schedd.edit, ours, name, value))
    ad = await harness.site.runner_status(job, 0)
    assert ad["MemoryUsage"] == "much"
    assert json.loads(json.dumps(ad, allow_nan=False)) == ad
    (report,) = (await harness.until_ended(job)).values()
    assert "an operator of the pool" in (report.outcome.error or "")


async def test_pool_without_history(harness: HTCondorHarness, monkeypatch) -> None:
    monkeypatch.setattr(tracker, "VANISHED_SECONDS", 0.5)
    with harness.pool.schedd_with("HISTORY", ""):
        job = await harness.start("exit 0")
        (report,) = (await harness.until_ended(job)).values()
        assert "does not know this container" in (report.outcome.error or "")
        assert await harness.site.measured(job, [0]) == {}
        assert await harness.site.runner_status(job, 0) == {}


@pytest.mark.parametrize(
    ("settings", "asked", "words"),
    [
        (
            {},
            {"request_cpus": str(CPUS + 1)},
            (
                f"{CPUS + 1} cpus and 50 MiB of memory, and the largest nodes have {CPUS} cpus and {MEMORY_MIB} MiB",
                "requirements: ",
            ),
        ),
        (
            {"clientgroup": "nobody"},
            {},
            (RULES, 'regexp("nobody",CLIENTGROUP)'),
        ),
        (
            {},
            {"request_disk": "400000000000"},
            (RULES, "it asks for 400000000000 KiB of disk, and a node has "),
        ),
    ],
    ids=["cpus", "group", "disk"],
)
async def test_containers_that_match_no_node(
    harness: HTCondorHarness,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, str],
    asked: dict[str, str],
    words: tuple[str, str],
) -> None:
    owner, admin = words
    harness.settings |= {"match_wait_min": 0.01, **settings}
    monkeypatch.setattr(site, "submit_description", lambda *job: submit_description(*job) | asked)
    job = await harness.start("true", memory="50MiB", num_containers=20, files=20)
    acts = []
    call = harness.site._bindings.call

    async def counted(method: str, **arguments: Any) -> Any:
        acts.extend(["act"] * (method == "act"))
        return await call(method, **arguments)

    monkeypatch.setattr(harness.site._bindings, "call", counted)
    reports = await harness.until_ended(job)
    for report in reports.values():
        assert owner in (report.outcome.error or "")
        assert admin in (report.outcome.admin_error or "")
    assert acts == ["act"]

    async def are_gone() -> bool:
        return await harness.processes(job) == set()

    await harness.until(are_gone)


async def _has_free(harness: HTCondorHarness, cpus: int) -> bool:
    return await harness.site.free_cpus() == cpus


async def test_full_pool_is_waited_for(harness: HTCondorHarness, monkeypatch) -> None:
    harness.settings["match_wait_min"] = 0.01
    more_than_half = CPUS // 2 + 1
    job = await harness.start(HOLD_ON, cpus=more_than_half)
    await harness.until_running(job)
    waiting = await harness.start("true", cpus=more_than_half)
    monkeypatch.setattr(site, "COUNT_SECONDS", -1.0)
    await harness.until(lambda: _has_free(harness, CPUS - more_than_half))
    await asyncio.sleep(1.5)
    for _ in range(3):
        assert not (await harness.ask({waiting.id: [S.DOWNLOAD_SUBMITTED]}))
    assert await harness.site._bindings.call(
        "never_matching", clusters=waiting.htcondor_details.cluster_id
    ) == {"misfits": [], "nodes": 1, "Cpus": CPUS, "Memory": MEMORY_MIB, "Disk": ANY}


async def test_cancel_waits_for_the_containers(harness: HTCondorHarness) -> None:
    job = await harness.start(f"echo > /tmp/$JOB_ID; {HOLD_ON}")

    async def has_begun() -> bool:
        return (harness.pool.pool / "work" / job.id).exists()

    async def is_canceled() -> bool:
        return await harness.site.cancel(job.id)

    await harness.until(has_begun)
    assert _runs(job.id)
    assert not await harness.site.cancel(job.id)
    assert not await harness.ask({job.id: [S.JOB_SUBMITTED]})
    await harness.until(is_canceled)
    assert not _runs(job.id)
    (report,) = (await harness.until_ended(job, S.JOB_SUBMITTED)).values()
    assert [step.state for step in report.steps] == [S.CANCELING, S.CANCELED]
    assert await harness.site.cancel(harness.job().id)


def _runs(job_id: str) -> bool:
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"{job_id}.sh" in process.read_text():
                return True
    return False


async def test_frozen_schedd_does_not_block_the_loop(harness: HTCondorHarness) -> None:
    job = await harness.start(HOLD_ON)
    await harness.site.close()
    harness.site = harness.make_site(timeout_s=3)
    schedd = harness.pool.daemon("condor_schedd")
    os.kill(schedd, signal.SIGSTOP)
    try:
        poll = asyncio.create_task(harness.ask({job.id: [S.DOWNLOAD_SUBMITTED]}))
        turns = 0
        while not poll.done():
            await asyncio.sleep(0.02)
            turns += 1
        with pytest.raises(UnavailableError, match="not answered"):
            await poll
        assert turns > 5  # the loop went on meanwhile
        assert not (await harness.site.describe()).available
    finally:
        os.kill(schedd, signal.SIGCONT)

    async def is_back() -> bool:
        try:
            return await harness.ask({job.id: [S.DOWNLOAD_SUBMITTED]}) == {}
        except UnavailableError:
            return False

    await harness.until(is_back)


async def test_busy_pool_stays_available(harness: HTCondorHarness) -> None:
    assert (await harness.site.describe()).available
    schedd = harness.pool.daemon("condor_schedd")
    os.kill(schedd, signal.SIGSTOP)
    try:
        # As during the submission of a large job, which takes longer than ``describe`` waits.
        work = asyncio.create_task(harness.ask({harness.job().id: [S.DOWNLOAD_SUBMITTED]}))
        await harness.until(lambda: _is_at_work(harness))
        async with asyncio.timeout(2):
            assert (await harness.site.describe()).available
        assert not work.done()
    finally:
        os.kill(schedd, signal.SIGCONT)
    assert await work == {}


async def _is_at_work(harness: HTCondorHarness) -> bool:
    return harness.site._bindings.is_busy


async def test_queue_survives_a_schedd_restart(harness: HTCondorHarness) -> None:
    job = await harness.start(HOLD_ON)
    await harness.until_running(job)
    os.kill(harness.pool.daemon("condor_schedd"), signal.SIGKILL)

    async def is_known_again() -> bool:
        try:
            return not await harness.ask({job.id: [S.JOB_SUBMITTED]}) and bool(
                await harness.site.runner_status(job, 0)
            )
        except UnavailableError:
            return False

    await harness.until(is_known_again)
    assert await harness.submit(job) == job.htcondor_details


async def test_schedd_is_remembered_while_the_collector_is_down(
    harness: HTCondorHarness,
) -> None:
    job = await harness.start(HOLD_ON)

    async def is_back() -> bool:
        return harness.pool._is_ready()

    master = harness.pool.daemon("condor_master")
    os.kill(master, signal.SIGSTOP)
    os.kill(harness.pool.daemon("condor_collector"), signal.SIGKILL)
    try:
        with pytest.raises(UnavailableError):
            await harness.site._bindings.call("never_matching", clusters=[])
        assert await harness.processes(job) == {f"{job.htcondor_details.cluster_id[0]}.0"}
    finally:
        os.kill(master, signal.SIGCONT)
        # A new site knows no schedd yet.
        await harness.until(is_back)


async def test_user_has_a_share_and_a_concurrency_limit(harness: HTCondorHarness) -> None:
    # The pool is configured with one_at_a_time_LIMIT = 1, and has room for many more.
    user = "one_at_a_time"
    script = "echo begins >> /tmp/$JOB_ID; sleep 0.3; echo ends >> /tmp/$JOB_ID"
    job = await harness.start(script, user=user, num_containers=3)
    await harness.until_ended(job)
    lines = (harness.pool.pool / "work" / job.id).read_text().split()
    assert lines == ["begins", "ends"] * 3
    # The negotiator counts for the user of CTS, and not for the jobs' owner, who is the same for all.
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while f"{user}@{DOMAIN}" not in harness.pool.usage():
            await asyncio.sleep(0.2)


async def test_pool_password_cannot_submit(harness: HTCondorHarness, monkeypatch) -> None:
    await harness.site.close()
    monkeypatch.setenv("CONDOR_CONFIG", str(harness.pool.client_config("PASSWORD")))
    harness.site = harness.make_site()
    await harness.site.open(lambda _: None)
    with pytest.raises(IllegalParameterError, match=r"condor@password.*IDTOKENS"):
        await harness.submit(harness.job())
    assert await harness.ask({harness.job().id: [S.DOWNLOAD_SUBMITTED]}) == {}


async def test_restarted_schedd_is_found_at_the_first_call(
    harness: HTCondorHarness,
) -> None:
    other = harness.make_site()
    await other._bindings.call("ping")
    os.kill(harness.pool.daemon("condor_schedd"), signal.SIGKILL)

    async def is_back() -> bool:
        with contextlib.suppress(UnavailableError):
            await harness.site._bindings.call("ping")
            return True
        return False

    await harness.until(is_back)
    await other._bindings.call("ping")
    await other.close()


async def test_preflight_refusals(harness: HTCondorHarness) -> None:
    job = harness.job()
    image = make_image(name="docker.io/fake/image").for_job()
    assert await harness.site.preflight(User("ana"), job.job_input, image) == []
    for user, refused in ((User("ana.b"), image), (User("ana"), make_image().for_job())):
        with pytest.raises(UnsupportedError):
            await harness.site.preflight(user, job.job_input, refused)
    described = await harness.site.describe()
    assert (described.cpus_per_node, described.memory_per_node_gb) == (168, 990)
    assert described.available


@pytest.mark.parametrize("days", [-1, 1])
async def test_history_is_found_with_a_differing_schedd_clock(
    harness: HTCondorHarness, monkeypatch, days: int
) -> None:
    def by_our_clock() -> datetime:
        return datetime.now(UTC) + timedelta(days=days)

    for module in (pool_harness, history, tracker):
        monkeypatch.setattr(module, "utc_now", by_our_clock)
    # Long enough ago that a start may have been made before.
    created = by_our_clock() - 2 * site.FIRST_START
    job = await harness.start("exit 0", time=created)
    (report,) = (await harness.until_ended(job)).values()
    assert "without a word" in (report.outcome.error or "")
    assert await harness.submit(job) == job.htcondor_details
    assert (await harness.site.measured(job, {0})).keys() == {0}
