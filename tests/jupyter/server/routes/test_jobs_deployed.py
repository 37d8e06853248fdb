"""A job that the deployed service has stored gets the response that the deployed service gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import bson
import pytest
from bson import CodecOptions
from bson.raw_bson import RawBSONDocument
from pydantic import BaseModel

from cts_core.engine.views import admin_view, job_view
from cts_core.model.record import JobRecord
from cts_core.records.mongo.documents import to_record
from cts_jupyter.server.http.encoding import encode_json
from tests.harness.paths import VECTORS

RAW: CodecOptions[RawBSONDocument] = CodecOptions(RawBSONDocument, tz_aware=True)


def _dates(found: dict[str, Any]) -> Any:
    return datetime.fromisoformat(found["$date"]) if "$date" in found else found


ANSWERS: dict[str, dict[str, Any]] = json.loads((VECTORS / "api.json").read_text())
STORED = {
    job["id"]: job
    for job in json.loads((VECTORS / "mongo.json").read_text(), object_hook=_dates)["jobs"]
}
VIEWS: dict[str, Callable[[JobRecord], BaseModel]] = {
    "job_as_owner": job_view,
    "job_as_admin": admin_view,
}


@pytest.mark.parametrize("who", ANSWERS)
def test_job_in_the_deployed_form(who: str):
    expected = ANSWERS[who]
    document = RawBSONDocument(bson.encode(STORED[expected["id"]]), RAW)
    body, _ = encode_json(VIEWS[who](to_record(document)), nulls=False, may_compress=False)
    response = json.loads(body)
    assert {name: response.get(name) for name in expected} == expected
    # What we add stands at the top level, where deployed clients take it.
    assert set(response) - set(expected) <= {"labels", "warnings", "parent_id"}


def test_every_response_of_the_vectors_is_compared():
    assert set(VIEWS) == set(ANSWERS)
