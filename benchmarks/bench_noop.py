"""Benchmark of a job of 200 no-op containers, compared with the same 200 processes started by ``xargs -P2``.

Prints the overhead per container, which should be below 50 ms, and the ratio of the two times. The job
takes all steps of a job: records, claims, inputs fetched and verified, outputs stored.
"""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from pathlib import Path

from harness import report, run, size

from cts_core.config.load import load_settings
from cts_core.engine.engine import Engine
from cts_core.identity.identity import User
from cts_core.identity.jupyter import OWNER_ROLES, JupyterIdentity
from cts_core.model.image import ImageRegistration
from cts_core.model.job import Submission
from cts_core.states import TERMINAL, JobState

CONTAINERS = size(200, 4)
CPUS = 2
ANA = User("ana", OWNER_ROLES)


async def _stream(data: bytes):
    yield data


async def through_cts(home: Path, tool: Path) -> float:
    settings = load_settings(
        {"home": home, "owner": ANA.name, "preset": "embedded", "local": {"cpus": CPUS}}, environ={}
    )
    engine = Engine.from_settings(settings, JupyterIdentity(ANA.name, "unused-kernel-token"))
    await engine.start()
    names = [f"bench/in/{n:03}" for n in range(CONTAINERS)]
    for name in names:
        await engine.files.write(ANA, name, _stream(b"x"), content_type="text/plain")
    await engine.images.register(ANA, "host/noop", ImageRegistration(executable=str(tool)))
    submission = Submission.model_validate(
        {
            "cluster": "local",
            "image": "host/noop",
            "output_dir": "bench/out",
            "input_files": names,
            "num_containers": CONTAINERS,
            "params": {"declobber": True, "args": ["/output_files/done"]},
        }
    )
    start = time.perf_counter()
    job_id = await engine.submissions.submit(ANA, submission)
    while (status := await engine.jobs.status(ANA, job_id)).state not in TERMINAL:
        await asyncio.sleep(0.02)
    seconds = time.perf_counter() - start
    assert status.state is JobState.COMPLETE, await engine.jobs.get(ANA, job_id)
    await engine.stop()
    return seconds


def by_xargs(tool: Path, folder: Path) -> float:
    targets = "\n".join(str(folder / f"done-{n}") for n in range(CONTAINERS))
    start = time.perf_counter()
    subprocess.run(["xargs", f"-P{CPUS}", "-n1", str(tool)], input=targets.encode(), check=True)
    return time.perf_counter() - start


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        tool = root / "noop"
        tool.write_text('#!/bin/sh\n: > "$1"\n')
        tool.chmod(0o755)
        baseline = by_xargs(tool, root)
        ours = asyncio.run(through_cts(root / "home", tool))
    overhead = (ours - baseline) / CONTAINERS * 1000
    report(
        f"{CONTAINERS} no-op containers",
        f"{ours:.2f} s, {overhead:.1f} ms each more than the {baseline:.2f} s of xargs -P{CPUS} (at most 10 ms)",
        overhead_ms=overhead,
        ratio=ours / baseline,
    )


if __name__ == "__main__":
    run(main)
