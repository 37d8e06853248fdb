"""Benchmark of the sites at JAWS: making a large run, and following 1,000 runs for an hour.

Prints how long the workflow and the inputs of 10,000 files over 1,000 containers take, beside the reading of the same job's JSON,
and the calls to NERSC and JAWS in an hour with 1,000 live runs, beside those of the deployed service, which asks for each
run after 10, 30, 60 and 120 s and then every 300 s (docs/reference/contract-jaws.md §8). The hour is one of a clock that moves once all is asked.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from email.message import Message
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from harness import report, run, size
from pydantic import SecretStr

from cts_core.model.job import JAWSDetails, Submission
from cts_core.object_paths import FolderPath
from cts_core.plan import plan_job
from cts_core.sites.jaws import facility, follow, site, watch
from cts_core.sites.jaws.facility import Facility
from cts_core.sites.jaws.layout import Layout, Machine
from cts_core.sites.jaws.setup import JAWSSetup
from cts_core.sites.jaws.site import JAWSSite
from cts_core.sites.jaws.wdl import make_run
from cts_core.sites.site import LiveJob
from cts_core.states import JobState
from tests.harness.factories import CRC, make_image, make_job_record
from tests.harness.jaws_clients import write_key
from tests.harness.jaws_site import PERLMUTTER
from tests.harness.jaws_vectors import LAYOUT
from tests.simulators.jaws_central import JAWS
from tests.simulators.sfapi import NERSC

FILES, CONTAINERS = size((10_000, 1_000), (100, 10))
RUNS = size(1_000, 10)
MAX_CALLS = 5.0
"""In a second, as ``jaws.max_calls_s`` has it by default."""
POLL_SECONDS = 10.0
"""Between polls that ask nothing."""
HOUR = 3600.0
_REFERENCE = (10, 30, 60, 120)


def time_run(layout: Layout) -> None:
    """Print how long a large run takes to make."""
    body = {
        "cluster": PERLMUTTER.value,
        "image": "ghcr.io/kbase/tool",
        "num_containers": CONTAINERS,
        "output_dir": "data/out",
        "params": {"args": [{"type": "input_files", "input_files_format": "space_separated_list"}]},
        "input_files": [
            {"file": f"data/in/{number}.fa", "crc64nvme": CRC} for number in range(FILES)
        ],
    }
    text = json.dumps(body)
    start = time.perf_counter()
    job = Submission.model_validate_json(text).job_input()
    read = time.perf_counter() - start
    image = make_image().for_job()
    start = time.perf_counter()
    jaws_run = make_run(
        job, image, plan_job(job, image), cache=layout.cache(Machine.PERLMUTTER), refdata=None
    )
    made = time.perf_counter() - start
    report(
        f"{FILES:,} files over {CONTAINERS:,} containers",
        f"the run is made in {made:.2f} s ({len(jaws_run.wdl) / 1e3:.1f} kB of WDL, "
        f"{len(jaws_run.inputs) / 1e6:.1f} MB of inputs); reading the job's JSON takes {read:.2f} s",
        time_s=made,
        ratio=made / read,
    )


class _Direct:
    """Calls the simulators without sockets, in the place of HttpClient."""

    simulators: Mapping[str, NERSC | JAWS] = {}

    def __init__(self, host: str, **_: Any) -> None:
        del host

    async def send(
        self, method: str, url: str, *, headers: Any = None, content: bytes | None = None
    ) -> tuple[int, bytes]:
        (simulator,) = (s for base, s in self.simulators.items() if url.startswith(base))
        message = Message()
        for name, value in (headers or {}).items():
            message[name] = value
        target = url[url.index("/", len("https://")) :]
        answer = simulator.respond(method, target, message, content or b"")
        return answer.status, answer.body

    async def close(self) -> None:
        pass


async def count_calls(folder: Path) -> tuple[Counter[str], Counter[str]]:
    """Return the calls to NERSC and to JAWS, by what they ask, in an hour of the clock."""
    nersc, jaws = NERSC(folder / "nersc"), JAWS()
    _Direct.simulators = {nersc.url: nersc, jaws.url.rstrip("/"): jaws}
    setup = JAWSSetup(
        group=LAYOUT.group,
        user=nersc.user,
        sfapi_cred_path=write_key(nersc, folder / "key"),
        refdata_root=LAYOUT.refdata_root,
        staging_dir_dtn=LAYOUT.staging[Machine.DTNS],
        staging_dir_perlmutter=LAYOUT.staging[Machine.PERLMUTTER],
        remote_code_dir=LAYOUT.code_root,
        jaws_token=SecretStr(jaws.token),
        log_dir=FolderPath("logs/cts/"),
        root_url="http://127.0.0.1:1",
        jaws_url=jaws.url,
        sfapi_url=nersc.api_url,
        sfapi_beta_url=nersc.beta_url,
        sfapi_token_url=nersc.token_url,
        max_calls_s=1e6,
    )
    jobs = []
    for _ in range(RUNS):
        job = make_job_record(cluster=PERLMUTTER.value)
        run = jaws.submit(job.id)
        run.move("running")
        details = JAWSDetails(run_id=[str(run.id)])
        job = job.model_copy(update={"jaws_details": details, "state": JobState.JOB_SUBMITTED})
        jobs.append(LiveJob(job, [JobState.JOB_SUBMITTED]))
    now = 0.0
    clock = SimpleNamespace(monotonic=lambda: now)
    shared = Facility(setup)
    for module in (follow, site, watch):
        module.time = clock  # type: ignore[assignment]
    at_jaws = JAWSSite(PERLMUTTER, shared, cast("Any", None), cast("Any", None))
    await at_jaws.open(lambda _: None)
    while not (await at_jaws.describe()).available:
        await asyncio.sleep(0.05)
    nersc.calls.clear()
    jaws.calls.clear()
    while now < HOUR:
        before = len(jaws.calls)
        await at_jaws.poll(jobs)
        while any(task.get_name().startswith("question-") for task in asyncio.all_tasks()):
            await asyncio.sleep(0)
        await asyncio.sleep(0)  # what is called at the ends of tasks
        now += max(POLL_SECONDS, (len(jaws.calls) - before) / MAX_CALLS)
    await at_jaws.close()
    return Counter(map(_kind, nersc.calls)), Counter(map(_kind, jaws.calls))


def _kind(call: str) -> str:
    return "/".join("…" if part.isdecimal() else part for part in call.split("/"))


def reference_calls() -> int:
    """Return how often the deployed service asks JAWS in an hour, of as many runs."""
    waited = sum(_REFERENCE)
    return RUNS * (len(_REFERENCE) + int((HOUR - waited) // 300))


def main() -> None:
    time_run(LAYOUT)
    facility.HttpClient = _Direct  # type: ignore[assignment, misc]
    with tempfile.TemporaryDirectory() as folder:
        nersc, jaws = asyncio.run(count_calls(Path(folder)))
    for name, calls in (("NERSC", nersc), ("JAWS", jaws)):
        rate = calls.total() / HOUR
        report(
            f"{RUNS:,} live runs for an hour, {name}",
            f"{calls.total():,} calls, {rate:.2f} a second, {calls.total() / RUNS:.1f} a run; the deployed service makes "
            f"{reference_calls() if name == 'JAWS' else 0:,}",
            calls=calls.total(),
        )
        for kind, count in calls.most_common():
            print(f"  {count:>7,} {kind}")


if __name__ == "__main__":
    run(main)
