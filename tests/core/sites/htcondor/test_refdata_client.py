"""Reference data at a site kbase that has no staging service. With one: tests/end_to_end/test_refdata_service.py."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from cts_core.config.sections import HTCondorSettings, S3Settings
from cts_core.model.refdata import ReferenceDataState
from cts_core.sites.htcondor.site import HTCondorSite
from cts_core.sites.htcondor.submit_description import NodeSetup
from tests.harness.factories import make_refdata
from tests.harness.htcondor import FolderSupply

# Not imported: the bindings look for their configuration when they are, and the pool's comes later.
pytestmark = pytest.mark.skipif(
    find_spec("htcondor2") is None, reason="HTCondor's bindings are for Linux"
)


async def test_it_is_refused_by_name(tmp_path: Path) -> None:
    settings = HTCondorSettings(initialdir=str(tmp_path))
    setup = NodeSetup("http://cts.invalid/cts", S3Settings(), "logs/container_logs", settings)
    supply = FolderSupply(tmp_path)
    site = HTCondorSite(setup, supply, supply)
    report = await site.stage_refdata(make_refdata())
    assert report.state is ReferenceDataState.ERROR
    assert "refdata.server_url" in (report.error or "")
    await site.close()
