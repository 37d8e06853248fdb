"""Benchmark of 200 and of 2,000 no-op containers, compared with as many processes started by ``xargs -P2``.

Prints the overhead per container, which should be at most 10 ms, and the ratio of the two times. The jobs
take all steps of a job: records, claims, inputs fetched and verified, outputs stored.
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
from cts_core.model.job import MAX_CONTAINERS, Submission
from cts_core.states import TERMINAL, JobState

SIZES = size(200, 4), size(2000, 6)
CPUS = 2
ANA = User("ana", OWNER_ROLES)


async def _stream(data: bytes):
    yield data


async def through_cts(home: Path, tool: Path, containers: int) -> float:
    settings = load_settings(
        {"home": home, "owner": ANA.name, "preset": "embedded", "local": {"cpus": CPUS}}, environ={}
    )
    engine = Engine.from_settings(settings, JupyterIdentity(ANA.name, "unused-kernel-token"))
    await engine.start()
    names = [f"bench/in/{n:04}" for n in range(containers)]
    for name in names:
        await engine.files.write(ANA, name, _stream(b"x"), content_type="text/plain")
    await engine.images.register(ANA, "host/noop", ImageRegistration(executable=str(tool)))
    parts = [names[i : i + MAX_CONTAINERS] for i in range(0, containers, MAX_CONTAINERS)]
    submissions = [
        Submission.model_validate(
            {
                "cluster": "local",
                "image": "host/noop",
                "output_dir": f"bench/out/{number}",
                "input_files": inputs,
                "num_containers": len(inputs),
                "params": {"declobber": True, "args": ["/output_files/done"]},
            }
        )
        for number, inputs in enumerate(parts)
    ]
    start = time.perf_counter()
    job_ids = [await engine.submissions.submit(ANA, submission) for submission in submissions]
    for job_id in job_ids:
        while (status := await engine.jobs.status(ANA, job_id)).state not in TERMINAL:
            await asyncio.sleep(0.02)
        assert status.state is JobState.COMPLETE, await engine.jobs.get(ANA, job_id)
    seconds = time.perf_counter() - start
    await engine.stop()
    return seconds


def by_xargs(tool: Path, folder: Path, containers: int) -> float:
    targets = "\n".join(str(folder / f"done-{n}") for n in range(containers))
    start = time.perf_counter()
    subprocess.run(["xargs", f"-P{CPUS}", "-n1", str(tool)], input=targets.encode(), check=True)
    return time.perf_counter() - start


def compare(containers: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        tool = root / "noop"
        tool.write_text('#!/bin/sh\n: > "$1"\n')
        tool.chmod(0o755)
        baseline = by_xargs(tool, root, containers)
        ours = asyncio.run(through_cts(root / "home", tool, containers))
    overhead = (ours - baseline) / containers * 1000
    report(
        f"{containers:,} no-op containers",
        f"{ours:.2f} s, {overhead:.1f} ms each more than the {baseline:.2f} s of xargs -P{CPUS} (at most 10 ms)",
        overhead_ms=overhead,
        ratio=ours / baseline,
    )


def main() -> None:
    for containers in SIZES:
        compare(containers)


if __name__ == "__main__":
    run(main)
