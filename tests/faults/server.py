"""A server process of the crash tests: submits jobs, runs all, and exits when nothing is left to do.

Usage: ``python server.py HOME SUBMISSION_JSON COUNT``. Submits ``COUNT`` copies, each under its own
Idempotency-Key, so that a second process with the same arguments submits nothing twice. Every event that
its subscriber gets is appended to ``HOME/delivered.jsonl`` before the cursor in ``HOME/cursor`` moves on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

from cts_core.config.load import load_settings
from cts_core.engine.engine import Engine
from cts_core.errors import ImageTagExistsError
from cts_core.identity.identity import User
from cts_core.identity.jupyter import OWNER_ROLES, JupyterIdentity
from cts_core.model.event import JobEvent
from cts_core.model.image import ImageRegistration
from cts_core.model.job import Submission
from cts_core.model.record import JobQuery
from cts_core.records.sqlite.connection import Connections
from cts_core.states import TERMINAL
from cts_core.worker import failpoints
from tests.harness.engine import read_jobs
from tests.harness.paths import APPEND_RUN

ANA = User("ana", OWNER_ROLES)


async def _stream(data: bytes):
    yield data


def _append(path: Path, line: str) -> None:
    with path.open("a") as out:
        out.write(line + "\n")
        out.flush()
        os.fsync(out.fileno())


async def _subscribe(engine: Engine, home: Path) -> None:
    cursor = home / "cursor"
    after = datetime.fromisoformat(cursor.read_text()) if cursor.exists() else None
    if after is None:
        after = datetime.fromtimestamp(0, UTC)
    async with engine.hub.subscribe(ANA.name, after=after) as events:
        async for event in events:
            if isinstance(event, JobEvent):
                _append(home / "delivered.jsonl", json.dumps(event.to_json()))
                # Atomically, or a crash could leave half a cursor. Another server may write it, too.
                new = cursor.with_suffix(f".{os.getpid()}")
                new.write_text(event.recorded_at.isoformat())
                new.replace(cursor)


async def _prepare(engine: Engine) -> None:
    for name in ("a", "b", "c"):
        await engine.files.write(
            ANA,
            f"data/in/{name}.txt",
            _stream(name.encode()),
            content_type="text/plain",
            overwrite=True,
        )
    # Another server may have registered it, or this one before it was killed.
    with contextlib.suppress(ImageTagExistsError):
        await engine.images.register(
            ANA, "host/tool", ImageRegistration(executable=str(APPEND_RUN))
        )


async def _is_idle(engine: Engine, delivered: Path) -> bool:
    jobs = read_jobs(await engine.jobs.list(ANA, JobQuery()))
    if any(job.state not in TERMINAL for job in jobs):
        return False
    if await engine._store.unsent(limit=1):
        return False
    trans_ids = {json.loads(line)["trans_id"] for line in delivered.read_text().splitlines()}
    return len(trans_ids) >= sum(len(job.transition_times) for job in jobs)


def _freeze_between_commits() -> None:
    """Delay a failpoint's ``stop`` until no thread is committing.

    A server that is frozen during a commit holds SQLite's lock, and no other server on the same home can write until
    it wakes up or is killed. SQLite works that way, and these tests are not about it.
    """
    committing = threading.Lock()
    write_group, kill = Connections._write_group, os.kill

    def write_group_alone(self: Connections) -> None:
        with committing:
            write_group(self)

    def kill_between_commits(pid: int, number: int) -> None:
        if number != signal.SIGSTOP:
            kill(pid, number)
            return
        with committing:
            kill(pid, number)

    Connections._write_group = write_group_alone
    failpoints.os.kill = kill_between_commits


async def main(home: Path, submission: str, count: int) -> None:
    settings = load_settings(
        {"home": home, "owner": ANA.name, "preset": "embedded", "local": {"cpus": 2}}, environ={}
    )
    engine = Engine.from_settings(settings, JupyterIdentity(ANA.name, "unused-kernel-token"))
    (home / "delivered.jsonl").touch()
    await engine.start()
    subscriber = asyncio.create_task(_subscribe(engine, home))
    await _prepare(engine)
    for number in range(count):
        body = json.loads(submission)
        body["output_dir"] += f"/{number}"
        await engine.submissions.submit(
            ANA, Submission.model_validate(body), idempotency_key=f"job-{number}"
        )
    cancel = home / "cancel-first"
    if cancel.exists():
        job = read_jobs(await engine.jobs.list(ANA, JobQuery()))[-1]
        if job.state not in TERMINAL and job.state != "canceling":
            await engine.jobs.cancel(ANA, job.id)
    while not await _is_idle(engine, home / "delivered.jsonl"):
        if subscriber.done():
            subscriber.result()
        await asyncio.sleep(0.05)
    subscriber.cancel()
    await engine.stop()


if __name__ == "__main__":
    _freeze_between_commits()
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
