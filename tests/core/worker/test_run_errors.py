"""What ``errors.json`` of JAWS tells, whatever somebody wrote into it. Its vectors are with the outcomes of runs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cts_core.worker.run_errors import ResultError, read_errors


@pytest.mark.parametrize(
    ("failures", "message"),
    [
        ([{"message": "disk full"}], "disk full"),
        ([{"message": "", "causedBy": [{"message": "why"}]}], "why"),
        ([{"causedBy": 5}, {"message": "next"}], "next"),
        ([{"causedBy": {"message": "no list"}}], None),
        (["text", None, 5], None),
        (5, None),
    ],
)
def test_first_message_is_found(failures: Any, message: str | None):
    assert read_errors(json.dumps({"failures": failures})).message == message


def test_causes_may_be_as_deep_as_json_is_read():
    deep: Any = [{"message": "at the bottom"}]
    for _ in range(400):
        deep = [{"causedBy": deep}]
    assert read_errors(json.dumps({"failures": deep})).message is None


@pytest.mark.parametrize("text", ["{", "[]", '{"a":' * 200_000, "[" * 200_000, b"\xff"])
def test_what_is_no_object_is_refused(text: str | bytes):
    with pytest.raises(ResultError):
        read_errors(text)
