"""The version stands in pyproject.toml; what else tells it tells the same."""

from __future__ import annotations

import tomllib

import pytest
import yaml

from cts_core.version import VERSION
from tests.harness.paths import ROOT


@pytest.mark.slow
def test_citation_and_package_tell_the_projects_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    assert version == VERSION
