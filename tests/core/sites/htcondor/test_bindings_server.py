"""The program that talks to HTCondor, where no pool is needed to see it."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

from cts_core.errors import UnavailableError
from cts_core.sites.htcondor.bindings_client import Pool


async def test_what_cannot_be_started_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    pool = Pool(5.0)
    for _ in range(2):
        with pytest.raises(UnavailableError, match="The program that talks to HTCondor has ended"):
            await pool.call("ping")
        assert not list(tmp_path.iterdir())
