"""The example notebooks over REST."""

from __future__ import annotations

import json

import pytest

from tests.harness.server import ServerHarness


@pytest.mark.slow
async def test_examples_are_listed_and_served(server: ServerHarness) -> None:
    listed = (await server.get("/examples")).json()["examples"]
    assert listed[0]["name"] == "quickstart"
    for example in listed:
        answer = await server.get(f"/examples/{example['name']}")
        assert answer.headers["content-type"] == "application/x-ipynb+json"
        (title, *_) = json.loads(answer.content)["cells"][0]["source"]
        assert title.strip() == f"# {example['title']}"
    assert (await server.get("/examples/nothing")).status_code == 404
    assert (await server.get("/examples/Quickstart.ipynb")).status_code == 400
