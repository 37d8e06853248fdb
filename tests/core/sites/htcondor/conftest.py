"""Fixtures: the nodes' file server, and a site on the tests' HTCondor pool."""

from __future__ import annotations

import asyncio
import functools
import http.server
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.harness.htcondor import TIMEOUT_SECONDS, HTCondorHarness, Nodes, is_emptied
from tests.services.condor import INITIALDIR, CondorPool


@pytest.fixture(scope="session")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    folder = tmp_path_factory.mktemp("nodes")
    (folder / "code.tgz").write_bytes(b"")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    ) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield Nodes(folder, f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        thread.join()


@pytest.fixture
async def harness(condor: CondorPool, nodes: Nodes) -> AsyncIterator[HTCondorHarness]:
    settings = {"initialdir": INITIALDIR, "archive_url": f"{nodes.url}/code.tgz", "timeout_s": 60}
    harness = HTCondorHarness(condor, nodes, settings)
    await harness.site.open(lambda _: None)
    yield harness
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not await is_emptied(harness.site):
            await asyncio.sleep(0.2)
    await harness.site.close()
