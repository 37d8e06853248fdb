"""A real engine on the embedded preset: SQLite, a directory as object store, and processes of this machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cts_core.config.load import load_settings
from cts_core.engine.engine import Engine
from cts_core.identity.identity import User
from cts_core.identity.jupyter import OWNER_ROLES, JupyterIdentity
from cts_core.json_pieces import Written
from cts_core.model.image import ImageRegistration
from cts_core.model.job import Job, JobPreview, Jobs, Submission
from cts_core.states import TERMINAL
from tests.harness.factories import make_submission
from tests.harness.paths import RECORD_CALL

TIMEOUT_SECONDS = 90


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def read_jobs(listing: Written[Jobs]) -> list[JobPreview]:
    """Return the jobs of a listing as the engine writes it."""
    return Jobs.model_validate_json(listing.body).jobs


def submission(names: list[str], **changes: Any) -> Submission:
    """Return a submission with the inputs ``data/in/<name>``; ``changes`` are fields of it."""
    params = {
        "args": [{"type": "input_files", "input_files_format": "space_separated_list"}],
        **changes.pop("params", {}),
    }
    files = [f"data/in/{name}" for name in names]
    return make_submission(**{"files": files, "params": params, **changes})


@dataclass
class EngineHarness:
    """An engine with a user, and what tests do with both."""

    engine: Engine
    user: User

    async def store(self, path: str, content: bytes = b"x") -> None:
        """Write an object."""
        await self.engine.files.write(
            self.user, path, pieces(content), content_type="text/plain", overwrite=True
        )

    async def prepare(self, *names: str) -> None:
        """Register ``host/tool`` and store ``data/in/<name>`` for each name."""
        await self.engine.images.register(
            self.user, "host/tool", ImageRegistration(executable=str(RECORD_CALL))
        )
        for name in names:
            await self.store(f"data/in/{name}", name.encode())

    async def submit(self, names: list[str], **changes: Any) -> str:
        """Submit a job and return its id; the arguments are those of ``submission``."""
        return await self.engine.submissions.submit(self.user, submission(names, **changes))

    async def wait_until_ended(self, job_id: str) -> Job:
        """Return the job once its state is terminal."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while (await self.engine.jobs.status(self.user, job_id)).state not in TERMINAL:
                await asyncio.sleep(0.02)
        return await self.engine.jobs.get(self.user, job_id)

    async def wait_until_events_sent(self) -> None:
        """Wait until the event of every transition is acknowledged."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while await self.engine._store.unsent(limit=1):
                await asyncio.sleep(0.02)

    async def read(self, path: str) -> bytes:
        """Return an object's content."""
        _, body = await self.engine.files.open(self.user, path)
        return b"".join([piece async for piece in body])


@asynccontextmanager
async def running_engine(home: Path, settings: dict[str, Any]) -> AsyncIterator[EngineHarness]:
    """Run an engine on this home; ``settings`` override the harness's own."""
    given = {
        "preset": "embedded",
        "home": home,
        "owner": "ana",
        "local": {"cpus": 2, "memory": 1_000_000_000, "stop_grace": 0.5},
        **settings,
    }
    loaded = load_settings(given, environ={"CTS_CONFIG": "/dev/null"})
    engine = Engine.from_settings(loaded, JupyterIdentity("ana", "kernel-token"))
    await engine.start()
    try:
        yield EngineHarness(engine, User("ana", OWNER_ROLES))
    finally:
        await engine.stop()
