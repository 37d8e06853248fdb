"""The site on a real pool: what is handed over, what is found out, what is told."""

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
from cts_core.sites.htcondor.classads import GIVEN_UP
from cts_core.sites.htcondor.constraints import any_job
from cts_core.sites.htcondor.submit_description import itemdata, submit_description
from cts_core.states import JobState
from tests.core.sites.htcondor.conftest import PATIENCE, Ground
from tests.harness.factories import make_image
from tests.services.condor import CPUS, DOMAIN, INITIALDIR, MEMORY_MIB

pytestmark = pytest.mark.slow
S = JobState
HOLD_ON = "while :; do sleep 0.1; done"
RULES = "which 1 of 1 nodes have, but by the pool's rules"


async def test_a_job_is_one_cluster_and_each_container_knows_itself(ground: Ground) -> None:
    job = await ground.start(
        "env > $name.out; sleep $CONTAINER_NUMBER", num_containers=2, memory="100MiB", user="ana_1"
    )
    status = await ground.site.runner_status(job, 1)
    assert [status["ClusterId"]] == job.htcondor_details.cluster_id
    assert (status["CTSJobID"], status["CTSContainerNumber"]) == (job.id, 1)
    assert (status["AccountingGroup"], status["ConcurrencyLimits"]) == ("ana_1", "ana_1")
    assert (status["RequestMemory"], status["WantGracefulRemoval"]) == (100, True)
    json.dumps(status)
    told = await ground.until_told(job)
    # Their worker ended well and said nothing: what became of them cannot be told.
    assert {n: [step.state for step in r.steps] for n, r in told.items()} == {
        0: [S.ERROR],
        1: [S.ERROR],
    }
    assert "without a word" in (told[0].outcome.error or "")
    work = ground.pool.pool / "work"
    for number in range(2):
        words = (work / f"cts-{job.id}-{number}-container.out").read_text().splitlines()
        assert {f"JOB_ID={job.id}", f"CONTAINER_NUMBER={number}"} <= set(words)
        assert "SERVICE_ROOT_URL=http://cts.invalid/cts" in words
    ended = await ground.site.runner_status(job, 1)
    assert (ended["JobStatus"], ended["ExitCode"]) == (4, 0)
    measured = await ground.site.measured(job, {1})
    assert measured.keys() == {1}
    assert measured[1].wall_seconds


async def test_start_again_is_harmless(ground: Ground) -> None:
    job = await ground.start("true", num_containers=2)
    assert await ground.hand_over(job) == job.htcondor_details
    await ground.until_told(job)
    # All of it has left the queue; what was not recorded is found in the history.
    other = ground.make_site(executable_url="http://127.0.0.1:9/none")
    ground.site, site = other, ground.site
    await site.close()
    assert await ground.hand_over(job) == job.htcondor_details


async def test_of_two_clusters_the_lower_stays_where_workers_claim_nothing(ground: Ground) -> None:
    job = await ground.start(HOLD_ON)
    # Another server looked before the first had submitted.
    second = await ground.site._pool.call(
        "submit",
        description=submit_description(job, ground.site._setup),
        itemdata=[{"container_number": "0"}],
    )
    (first,) = job.htcondor_details.cluster_id
    assert second > first
    await _until_left(ground, job, {f"{first}.0"})
    assert await ground.hand_over(job) == job.htcondor_details


async def test_of_two_clusters_what_has_claimed_stays(ground: Ground) -> None:
    job = await ground.start_own(HOLD_ON, num_containers=3)
    (first,) = job.htcondor_details.cluster_id
    second = await ground.site._submit(job)
    states = {job.id: [S.DOWNLOAD_SUBMITTED] * 3}
    # Any of them may be the one that claims.
    for _ in range(3):
        assert await ground.site.poll(states) == {}
    both = {f"{cluster}.{number}" for cluster in (first, second) for number in range(3)}
    assert await ground.processes(job) == both
    ground.supply.held = {0: f"{second}.0", 1: f"{first}.1"}

    await _until_left(ground, job, both - {f"{first}.0", f"{second}.1"})
    ground.supply.held = {**ground.supply.held, 2: f"{second}.2"}
    await _until_left(ground, job, {f"{second}.0", f"{first}.1", f"{second}.2"})
    # What is gone is as if it had never been.
    for number, cluster in ((0, second), (1, first), (2, second)):
        assert (await ground.site.runner_status(job, number))["ClusterId"] == cluster


async def test_what_waits_goes_once_others_have_run_its_containers_to_their_end(
    ground: Ground,
) -> None:
    job = await ground.start_own("true", num_containers=3)
    (first,) = job.htcondor_details.cluster_id
    too_large = {"request_cpus": str(CPUS + 1)}
    second = await ground.site._pool.call(
        "submit",
        description=submit_description(job, ground.site._setup) | too_large,
        itemdata=itemdata(job),
    )
    waits = [f"{second}.{number}" for number in range(3)]

    async def until_left(processes: set[str]) -> None:
        async def is_so() -> bool:
            return await ground.processes(job) == processes

        await ground.until(is_so)

    await until_left(set(waits))
    states = [S.COMPLETE, S.COMPLETE, S.ERROR]
    # Of the last nobody knows who ran it.
    ground.supply.held = {0: f"{first}.0", 1: f"{second}.1"}
    assert await ground.site.poll({job.id: [*states[:2], S.JOB_SUBMITTED]}) == {}
    assert await ground.processes(job) == set(waits)
    assert await ground.site.poll({job.id: states}) == {}
    await until_left(set(waits[1:]))


async def test_a_start_of_which_a_part_was_given_up_is_made_whole(ground: Ground) -> None:
    job = await ground.start_own(HOLD_ON, num_containers=2)
    (first,) = job.htcondor_details.cluster_id
    lost = f"ClusterId == {first} && ProcId == 1"
    await ground.site._pool.call("act", action="Remove", constraint=lost, reason=GIVEN_UP)
    first, second = (await ground.hand_over(job)).cluster_id
    ground.supply.held = {0: f"{first}.0"}
    await _until_left(ground, job, {f"{first}.0", f"{second}.1"})
    assert (await ground.hand_over(job)).cluster_id == [first, second]


async def _until_left(ground: Ground, job: JobRecord, processes: set[str]) -> None:
    """Poll until these are all that is in the queue; nothing is to be told of it."""

    async def is_so() -> bool:
        states = [S.DOWNLOAD_SUBMITTED] * job.job_input.num_containers
        assert await ground.site.poll({job.id: states}) == {}
        return await ground.processes(job) == processes

    await ground.until(is_so)


async def test_a_worker_that_fails_is_told_with_the_pools_reason(ground: Ground) -> None:
    job = await ground.start("exit 3")
    (report,) = (await ground.until_told(job, S.JOB_SUBMITTED)).values()
    assert [step.state for step in report.steps] == [S.ERROR]
    assert "failed before it could say why" in (report.outcome.error or "")
    assert "OnExitHold" in (report.outcome.admin_error or "")
    assert (await ground.site.runner_status(job, 0))["JobStatus"] == 5


async def test_a_script_that_was_changed_on_its_way_is_not_run(ground: Ground) -> None:
    ground.supply.changed = b"\n"
    job = await ground.start_own(f"touch {INITIALDIR}/ran-$JOB_ID")
    (report,) = (await ground.until_told(job)).values()
    # All that a node hands back was there: it is the program's own end.
    assert "failed before it could say why" in (report.outcome.error or "")
    (said,) = ground.pool.pool.glob(f"spool/*/*/*/cts-{job.id}-0.err")
    assert "not what the job was submitted with" in said.read_text().splitlines()[-1]
    assert not (ground.pool.pool / "work" / f"ran-{job.id}").exists()
    ground.supply.changed = b""
    job = await ground.start_own(f"touch {INITIALDIR}/ran-$JOB_ID")
    await ground.until_told(job)
    assert (ground.pool.pool / "work" / f"ran-{job.id}").exists()


async def test_what_waits_runs_the_worker_that_it_was_submitted_with(ground: Ground) -> None:
    full = await ground.start(HOLD_ON, cpus=CPUS)
    await ground.until_running(full)
    waits = await ground.start_own("echo old > /tmp/$JOB_ID")
    await ground.run_own("echo new > /tmp/$JOB_ID")  # as a server of another release
    after = ground.job()
    await ground.hand_over(after)
    await ground.site.cancel(full.id)
    ran = {}
    for job in (waits, after):
        await ground.until_told(job)
        ran[job.id] = (ground.pool.pool / "work" / job.id).read_text()
    assert ran == {waits.id: "old\n", after.id: "new\n"}


async def test_what_cannot_be_fetched_is_tried_again(ground: Ground, monkeypatch) -> None:
    monkeypatch.setattr(tracker, "RELEASE_SECONDS", 0.0)
    ground.settings["archive_url"] = f"{ground.nodes.url}/none.tgz"
    job = await ground.start("true")
    (report,) = (await ground.until_told(job)).values()
    assert "could not fetch" in (report.outcome.error or "")
    assert (await ground.site.runner_status(job, 0))["NumHolds"] == tracker.RELEASES + 1


async def test_what_can_be_fetched_later_runs(ground: Ground, monkeypatch) -> None:
    monkeypatch.setattr(tracker, "RELEASE_SECONDS", 0.0)
    ground.settings["archive_url"] = f"{ground.nodes.url}/late.tgz"
    job = await ground.start("true")

    async def is_held() -> bool:
        return (await ground.site.runner_status(job, 0)).get("JobStatus") == 5

    await ground.until(is_held)
    (ground.nodes.folder / "late.tgz").write_bytes(b"")
    (report,) = (await ground.until_told(job)).values()
    assert "without a word" in (report.outcome.error or "")


async def test_a_container_that_was_removed(ground: Ground) -> None:
    job = await ground.start(HOLD_ON)
    await ground.until_running(job)
    await ground.site._pool.call(
        "act",
        action="Remove",
        constraint=f'CTSJobID == "{job.id}"',
        reason="enough",
    )
    (report,) = (await ground.until_told(job, S.JOB_SUBMITTED)).values()
    assert "removed from the pool's queue" in (report.outcome.error or "")
    assert "enough" in (report.outcome.admin_error or "")


async def test_a_container_that_nobody_knows(ground: Ground, monkeypatch) -> None:
    monkeypatch.setattr(tracker, "VANISHED_SECONDS", 0.5)
    (report,) = (await ground.until_told(ground.job(), S.JOB_SUBMITTED)).values()
    assert "does not know this container" in (report.outcome.error or "")


async def test_an_ad_that_somebody_has_edited(ground: Ground) -> None:
    # Of one that runs, the numbers would be written anew.
    job = await ground.start(HOLD_ON, cpus=CPUS + 1)
    schedd, ours = ground.pool.schedd(), any_job([job.id])
    await ground.site._pool.call("act", action="Hold", constraint=ours, reason="looked at")
    for name, value in (("RemoteUserCpu", 'real("NaN")'), ("MemoryUsage", '"much"')):
        ground.pool.insist(functools.partial(schedd.edit, ours, name, value))
    ad = await ground.site.runner_status(job, 0)
    assert ad["MemoryUsage"] == "much"
    assert json.loads(json.dumps(ad, allow_nan=False)) == ad
    (report,) = (await ground.until_told(job)).values()
    assert "an operator of the pool" in (report.outcome.error or "")


async def test_a_pool_that_keeps_no_history(ground: Ground, monkeypatch) -> None:
    monkeypatch.setattr(tracker, "VANISHED_SECONDS", 0.5)
    with ground.pool.schedd_with("HISTORY", ""):
        job = await ground.start("exit 0")
        (report,) = (await ground.until_told(job)).values()
        assert "does not know this container" in (report.outcome.error or "")
        assert await ground.site.measured(job, [0]) == {}
        assert await ground.site.runner_status(job, 0) == {}


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
async def test_containers_that_no_node_can_take(
    ground: Ground,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, str],
    asked: dict[str, str],
    words: tuple[str, str],
) -> None:
    owner, admin = words
    ground.settings |= {"match_wait_min": 0.01, **settings}
    monkeypatch.setattr(site, "submit_description", lambda *job: submit_description(*job) | asked)
    job = await ground.start("true", memory="50MiB", num_containers=20, files=20)
    acts = []
    call = ground.site._pool.call

    async def counted(method: str, **arguments: Any) -> Any:
        acts.extend(["act"] * (method == "act"))
        return await call(method, **arguments)

    monkeypatch.setattr(ground.site._pool, "call", counted)
    told = await ground.until_told(job)
    for report in told.values():
        assert owner in (report.outcome.error or "")
        assert admin in (report.outcome.admin_error or "")
    assert acts == ["act"]

    async def are_gone() -> bool:
        return await ground.processes(job) == set()

    await ground.until(are_gone)


async def test_a_full_pool_is_no_reason_to_give_up(ground: Ground) -> None:
    ground.settings["match_wait_min"] = 0.01
    more_than_half = CPUS // 2 + 1
    job = await ground.start(HOLD_ON, cpus=more_than_half)
    await ground.until_running(job)
    waiting = await ground.start("true", cpus=more_than_half)
    await asyncio.sleep(1.5)
    for _ in range(3):
        assert not (await ground.site.poll({waiting.id: [S.DOWNLOAD_SUBMITTED]}))
    assert await ground.site._pool.call(
        "never_matching", clusters=waiting.htcondor_details.cluster_id
    ) == {"misfits": [], "nodes": 1, "Cpus": CPUS, "Memory": MEMORY_MIB, "Disk": ANY}


async def test_cancel_waits_for_the_containers(ground: Ground) -> None:
    job = await ground.start(f"echo > /tmp/$JOB_ID; {HOLD_ON}")

    async def has_begun() -> bool:
        return (ground.pool.pool / "work" / job.id).exists()

    async def is_canceled() -> bool:
        return await ground.site.cancel(job.id)

    await ground.until(has_begun)
    assert _runs(job.id)
    assert not await ground.site.cancel(job.id)
    assert not await ground.site.poll({job.id: [S.JOB_SUBMITTED]})
    await ground.until(is_canceled)
    assert not _runs(job.id)
    (report,) = (await ground.until_told(job, S.JOB_SUBMITTED)).values()
    assert [step.state for step in report.steps] == [S.CANCELING, S.CANCELED]
    assert await ground.site.cancel(ground.job().id)


def _runs(job_id: str) -> bool:
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"{job_id}.sh" in process.read_text():
                return True
    return False


async def test_a_schedd_that_says_nothing_holds_up_nobody(ground: Ground) -> None:
    job = await ground.start(HOLD_ON)
    await ground.site.close()
    ground.site = ground.make_site(timeout_s=3)
    schedd = ground.pool.daemon("condor_schedd")
    os.kill(schedd, signal.SIGSTOP)
    try:
        poll = asyncio.create_task(ground.site.poll({job.id: [S.DOWNLOAD_SUBMITTED]}))
        turns = 0
        while not poll.done():
            await asyncio.sleep(0.02)
            turns += 1
        with pytest.raises(UnavailableError, match="not answered"):
            await poll
        assert turns > 5  # the loop went on meanwhile
        assert not (await ground.site.describe()).available
    finally:
        os.kill(schedd, signal.SIGCONT)

    async def is_back() -> bool:
        try:
            return await ground.site.poll({job.id: [S.DOWNLOAD_SUBMITTED]}) == {}
        except UnavailableError:
            return False

    await ground.until(is_back)


async def test_a_pool_at_work_for_somebody_takes_jobs_of_others(ground: Ground) -> None:
    assert (await ground.site.describe()).available
    schedd = ground.pool.daemon("condor_schedd")
    os.kill(schedd, signal.SIGSTOP)
    try:
        # As when it is handed a large job: its answer takes longer than anybody here would wait.
        work = asyncio.create_task(ground.site.poll({ground.job().id: [S.DOWNLOAD_SUBMITTED]}))
        await ground.until(lambda: _is_at_work(ground))
        async with asyncio.timeout(2):
            assert (await ground.site.describe()).available
        assert not work.done()
    finally:
        os.kill(schedd, signal.SIGCONT)
    assert await work == {}


async def _is_at_work(ground: Ground) -> bool:
    return ground.site._pool.is_at_work


async def test_the_queue_outlives_its_schedd(ground: Ground) -> None:
    job = await ground.start(HOLD_ON)
    await ground.until_running(job)
    os.kill(ground.pool.daemon("condor_schedd"), signal.SIGKILL)

    async def is_known_again() -> bool:
        try:
            return not await ground.site.poll({job.id: [S.JOB_SUBMITTED]}) and bool(
                await ground.site.runner_status(job, 0)
            )
        except UnavailableError:
            return False

    await ground.until(is_known_again)
    assert await ground.hand_over(job) == job.htcondor_details


async def test_a_schedd_is_not_forgotten_while_the_collector_is_away(ground: Ground) -> None:
    job = await ground.start(HOLD_ON)

    async def is_back() -> bool:
        return ground.pool._is_ready()

    master = ground.pool.daemon("condor_master")
    os.kill(master, signal.SIGSTOP)
    os.kill(ground.pool.daemon("condor_collector"), signal.SIGKILL)
    try:
        with pytest.raises(UnavailableError):
            await ground.site._pool.call("never_matching", clusters=[])
        assert await ground.processes(job) == {f"{job.htcondor_details.cluster_id[0]}.0"}
    finally:
        os.kill(master, signal.SIGCONT)
        # Who comes next knows no schedd yet.
        await ground.until(is_back)


async def test_a_user_has_a_share_and_a_limit(ground: Ground) -> None:
    # The pool's configuration has one_at_a_time_LIMIT = 1, and room for many more.
    user = "one_at_a_time"
    script = "echo begins >> /tmp/$JOB_ID; sleep 0.3; echo ends >> /tmp/$JOB_ID"
    job = await ground.start(script, user=user, num_containers=3)
    await ground.until_told(job)
    told = (ground.pool.pool / "work" / job.id).read_text().split()
    assert told == ["begins", "ends"] * 3
    # The negotiator counts for the user of CTS, and not for the jobs' owner, who is the same for all.
    async with asyncio.timeout(PATIENCE):
        while f"{user}@{DOMAIN}" not in ground.pool.usage():
            await asyncio.sleep(0.2)


async def test_a_pool_password_is_told_to_be_none_to_submit_with(
    ground: Ground, monkeypatch
) -> None:
    await ground.site.close()
    monkeypatch.setenv("CONDOR_CONFIG", str(ground.pool.client_config("PASSWORD")))
    ground.site = ground.make_site()
    await ground.site.open(lambda _: None)
    with pytest.raises(IllegalParameterError, match=r"condor@password.*IDTOKENS"):
        await ground.hand_over(ground.job())
    assert await ground.site.poll({ground.job().id: [S.DOWNLOAD_SUBMITTED]}) == {}


async def test_a_schedd_that_is_back_is_known_at_the_first_question(ground: Ground) -> None:
    other = ground.make_site()
    await other._pool.call("ping")
    os.kill(ground.pool.daemon("condor_schedd"), signal.SIGKILL)

    async def is_back() -> bool:
        with contextlib.suppress(UnavailableError):
            await ground.site._pool.call("ping")
            return True
        return False

    await ground.until(is_back)
    await other._pool.call("ping")
    await other.close()


async def test_what_the_site_refuses(ground: Ground) -> None:
    job = ground.job()
    image = make_image(name="docker.io/fake/image").for_job()
    assert await ground.site.preflight(User("ana"), job.job_input, image) == []
    for user, refused in ((User("ana.b"), image), (User("ana"), make_image().for_job())):
        with pytest.raises(UnsupportedError):
            await ground.site.preflight(user, job.job_input, refused)
    described = await ground.site.describe()
    assert (described.cpus_per_node, described.memory_per_node_gb) == (168, 990)
    assert described.available


@pytest.mark.parametrize("days", [-1, 1])
async def test_what_has_left_the_queue_is_found_though_the_schedds_clock_is_another(
    ground: Ground, monkeypatch, days: int
) -> None:
    def by_our_clock() -> datetime:
        return datetime.now(UTC) + timedelta(days=days)

    for module in (site, history, tracker):
        monkeypatch.setattr(module, "utc_now", by_our_clock)
    # Long enough ago to be looked for.
    created = by_our_clock() - 2 * site.FIRST_TRY
    job = await ground.start("exit 0", time=created)
    (report,) = (await ground.until_told(job)).values()
    assert "without a word" in (report.outcome.error or "")
    assert await ground.hand_over(job) == job.htcondor_details
    assert (await ground.site.measured(job, {0})).keys() == {0}
