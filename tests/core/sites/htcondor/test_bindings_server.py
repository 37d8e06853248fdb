"""Tests of the bindings' program that need no pool."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

from cts_core.errors import UnavailableError
from cts_core.sites.htcondor.bindings_client import BindingsClient


async def test_failed_start_leaves_no_files(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    bindings = BindingsClient(5.0)
    for _ in range(2):
        with pytest.raises(UnavailableError, match="The program that talks to HTCondor has ended"):
            await bindings.call("ping")
        assert not list(tmp_path.iterdir())
