"""The clients of NERSC, on a simulator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cts_core.http_client import HttpClient
from cts_core.sites.jaws.credentials import Credentials, read_key
from cts_core.sites.jaws.pace import Pace
from cts_core.sites.jaws.sfapi import SFAPI, Task
from tests.simulators.sfapi import NERSC


def write_key(nersc: NERSC, path: Path) -> Path:
    """Write the file of the simulator's client."""
    path.write_text(f"{nersc.client_id}\n{nersc.pem()}")
    return path


@asynccontextmanager
async def sfapi_client(
    nersc: NERSC, folder: Path, *, timeout: float = 20.0, per_second: float = 1000.0
) -> AsyncIterator[SFAPI]:
    http = HttpClient("127.0.0.1", timeout=timeout, connections=4, max_bytes=64 << 20)
    key = read_key(write_key(nersc, folder / "key"))
    pace = Pace(per_second)
    credentials = Credentials(key, http, nersc.token_url, pace)
    yield SFAPI(nersc.api_url, nersc.beta_url, http, credentials, pace)
    await http.close()


async def ended_task(sfapi: SFAPI, task_id: str) -> Task:
    """Return a command at its end."""
    async with asyncio.timeout(60):
        while not (task := await sfapi.task(task_id)).is_over:
            await asyncio.sleep(0.02)
    return task
