"""``cts sites check`` at the sites of JAWS, on simulators of NERSC and JAWS."""

from __future__ import annotations

from pathlib import Path

import pytest

from cts_core.sites.jaws.layout import Machine
from tests.harness.cli import Run
from tests.harness.jaws_settings import jaws_settings, settings_variables
from tests.harness.jaws_vectors import LAYOUT
from tests.services.s3 import S3Server
from tests.simulators.jaws_sites import JAWSSites, jaws_sites

__all__ = ["jaws_sites"]
pytestmark = pytest.mark.slow


def _files(folder: Path) -> set[tuple[str, int]]:
    return {
        (str(path), path.lstat().st_mtime_ns)
        for path in folder.rglob("*")
        if not path.name.startswith("bashrc")
    }


def test_check_tells_what_works_and_changes_nothing(
    run: Run, jaws_sites: JAWSSites, minio: S3Server, tmp_path: Path
):
    minio.empty()
    minio.put({"logs/x": b""})
    nersc = jaws_sites.nersc
    for path in (LAYOUT.staging[Machine.DTNS], LAYOUT.refdata_root, LAYOUT.code_root):
        nersc.place(path).mkdir(parents=True, exist_ok=True)
    more = settings_variables(jaws_settings(jaws_sites, minio, tmp_path))
    before = _files(nersc.root)
    shown = run("sites", "check", "perlmutter-jaws", more=more)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert f"client {nersc.client_id} of {nersc.user}, expires" in shown.stdout
    assert "JAWS: the token is of cdm_ts" in shown.stdout
    assert (
        "Perlmutter: the client of JAWS is /global/cfs/projectdirs/kbase/jaws/bin/jaws"
        in shown.stdout
    )
    assert "data transfer nodes: $SCRATCH is /global/pscratch/sd/c/cdm_ts" in shown.stdout
    assert "data transfer nodes: Python is 3." in shown.stdout
    assert "it can be used" in shown.stdout
    assert _files(nersc.root) == before
    assert jaws_sites.jaws.token not in shown.stdout + shown.stderr


def test_check_tells_everything_that_does_not_work(
    run: Run, jaws_sites: JAWSSites, minio: S3Server, tmp_path: Path
):
    minio.empty()
    minio.put({"logs/x": b""})
    settings = jaws_settings(jaws_sites, minio, tmp_path)
    settings["jaws"] |= {"token": "other", "refdata_root_dir": "/global/missing"}
    jaws_sites.nersc.statuses["dtns"] = "unavailable"
    jaws_sites.nersc.outages["dtns"] = [
        {
            "start_at": "2020-01-01T00:00:00+00:00",
            "end_at": None,
            "description": "power",
            "status": "Active",
        }
    ]
    jaws_sites.jaws.sites["jgi"]["jgi-Cromwell"] = "DOWN"
    shown = run("sites", "check", "lawrencium-jaws", more=settings_variables(settings))
    assert shown.returncode == 3, shown.stdout + shown.stderr
    wrong = [line for line in shown.stdout.splitlines() if line.startswith("wrong: ")]
    for part in (
        "NERSC is down: power",
        "jaws.token",
        "data transfer nodes: there is no folder /global/missing",
        "Perlmutter: there is no folder /global/missing",
    ):
        assert any(part in line for line in wrong), (part, shown.stdout)
