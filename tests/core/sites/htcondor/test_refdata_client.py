"""Tests of reference data at a site kbase without a staging service; with one: tests/end_to_end/test_refdata_service.py."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from cts_core.config.sections import HTCondorSettings, S3Settings
from cts_core.model.refdata import ReferenceDataState
from cts_core.object_paths import FolderPath
from cts_core.sites.htcondor.site import HTCondorSite
from cts_core.sites.htcondor.submit_description import NodeSetup
from tests.harness.factories import make_refdata
from tests.harness.htcondor import FolderWorkerSupplies

# Not imported: the bindings read their configuration at import, and the pool's does not exist yet.
pytestmark = pytest.mark.skipif(
    find_spec("htcondor2") is None, reason="HTCondor's bindings are for Linux"
)


@pytest.mark.slow
async def test_error_names_the_setting(tmp_path: Path) -> None:
    settings = HTCondorSettings(initialdir=str(tmp_path))
    setup = NodeSetup(
        "http://cts.invalid/cts", S3Settings(), FolderPath("logs/container_logs"), settings
    )
    supplies = FolderWorkerSupplies(tmp_path)
    site = HTCondorSite(setup, supplies, supplies)
    report = await site.stage_refdata(make_refdata())
    assert report.state is ReferenceDataState.ERROR
    assert "refdata.server_url" in (report.error or "")
    await site.close()
