"""How the JSON of responses is written."""

from __future__ import annotations

import pytest

from cts_core.engine.views import status_view
from cts_core.json_pieces import Written
from cts_jupyter.server.http.encoding import encode_json, is_quick
from tests.harness.factories import make_job_record


def test_status_is_quick():
    assert is_quick(status_view(make_job_record(), {"complete": 3}))


@pytest.mark.parametrize(("size", "quick"), [(30_000, True), (30_001, False)])
def test_long_written_json_is_not_as_it_is_compressed(*, size: int, quick: bool):
    assert is_quick(Written(b"x" * size)) is quick


def test_written_json_is_sent_as_it_is():
    written = Written(b'{"file":"data/a"}')
    assert encode_json(written, nulls=True, may_compress=True) == (written.body, False)


@pytest.mark.parametrize("value", ["x" * 100_000, ["x" * 1000] * 100, {"a": [{}] * 1000}])
def test_long_texts_and_lists_anywhere_are_not(value: object):
    assert is_quick({"a": {"b": "x"}})
    assert not is_quick({"a": {"b": value}})


@pytest.mark.parametrize("nulls", [True, False])
def test_what_is_quick_is_written_as_in_pieces(*, nulls: bool):
    status = status_view(make_job_record(), {"complete": 3})
    pieces = encode_json(status, nulls=nulls, may_compress=True)
    assert encode_json(status, nulls=nulls, may_compress=True, quick=True) == pieces
