"""One of several servers on one home, whose jobs run in the tests' pool: drives them until it is killed.

Usage: ``python -m tests.harness.programs.pool_server HOME``.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from cts_core.config.load import load_settings
from cts_core.config.sections import HTCondorSettings, S3Settings
from cts_core.engine import adapters
from cts_core.engine.engine import Engine
from cts_core.engine.worker_code import WorkerCode
from cts_core.engine.worker_tokens import WorkerTokens
from cts_core.identity.jupyter import JupyterIdentity
from cts_core.model.site import SiteName
from cts_core.sites.htcondor.site import HTCondorSite
from cts_core.sites.htcondor.submit_description import NodeSetup
from tests.services.condor import INITIALDIR

NONE = "http://127.0.0.1:9/none"
"""An unused URL: the jobs never start, so that no node fetches anything."""


async def main(home: Path) -> None:
    given = {"home": home, "owner": "ana", "preset": "embedded"}
    settings = load_settings(given, environ={"CTS_CONFIG": "/dev/null"})
    store, objects = adapters.record_store(settings), adapters.object_store(settings)
    at_pool = HTCondorSettings(initialdir=INITIALDIR, executable_url=NONE, archive_url=NONE)
    setup = NodeSetup(NONE, S3Settings(url=NONE, access_key="cts"), settings.log_folder, at_pool)
    tokens, code = WorkerTokens(store), WorkerCode(objects, log_dir=settings.log_folder)
    engine = Engine(
        settings,
        identity=JupyterIdentity("ana", "unused-kernel-token"),
        store=store,
        objects=objects,
        registries=adapters.image_source(settings),
        sites={SiteName.KBASE: HTCondorSite(setup, tokens, code)},
    )
    await engine.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
