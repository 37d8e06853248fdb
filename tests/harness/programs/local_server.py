"""A server process of the tests with several servers on one home: starts jobs, and polls until all have ended.

Usage: ``python -m tests.harness.programs.local_server FOLDER NAME``, once ``FOLDER/go`` is there.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.harness.sites import local_harness

JOBS, CONTAINERS, CPUS = 3, 4, 2
SCRIPT = 'echo "+ $CPUS $CTS_CONTAINER" >> "$LINES"; sleep 0.05; echo "- $CPUS $CTS_CONTAINER" >> "$LINES"'


async def main(folder: Path, name: str) -> None:
    harness = local_harness(folder, cpus=CPUS)
    await harness.site.open(harness.on_change)
    for number in range(JOBS):
        cpus = 1 + number % 2
        environment = {"LINES": str(folder / "lines"), "CPUS": str(cpus)}
        job = harness.job(
            SCRIPT,
            id=f"{name}-{number}",
            num_containers=CONTAINERS,
            cpus=cpus,
            params={"environment": environment},
        )
        await harness.hand_over(job)
        await harness.poll()
    while any((folder / "local" / "queue").iterdir()):
        await harness.poll()
        await asyncio.sleep(0.01)
    await harness.site.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
