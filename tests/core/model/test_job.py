"""What a submission may say, and the form in which it is kept."""

from __future__ import annotations

import pytest

from cts_core.model.resubmission import Resubmission
from tests.harness.factories import make_submission


@pytest.mark.parametrize("given", ["data/out", "data/out/", " data/out"])
def test_an_output_folder_has_one_trailing_slash(given: str):
    assert make_submission(output_dir=given).output_dir == "data/out/"
    assert Resubmission(output_dir=given).output_dir == "data/out/"
