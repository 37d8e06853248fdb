"""Resubmission over REST, and the outputs of a lineage."""

from __future__ import annotations

import pytest

from tests.harness.server import IDEMPOTENCY_KEY, ServerHarness, submission, submit, wait_for


@pytest.mark.slow
async def test_resubmit_a_job(server: ServerHarness) -> None:
    await server.prepare("a", "b")
    first = await submit(server, submission(labels={"run": "7"}))
    await wait_for(server, first)
    path = f"/jobs/{first}/resubmit"
    checked = (await server.post(f"{path}/check", json={"memory": "60MB"})).json()
    assert (checked["output_dir"], checked["input_file_count"]) == ("data/out-2/", 2)
    # A body is for changes only.
    responses = [
        await server.post(path, headers={IDEMPOTENCY_KEY: "k"}),
        await server.post(path, headers={IDEMPOTENCY_KEY: "k"}, json={}),
    ]
    (again,) = {response.json()["job_id"] for response in responses}
    await wait_for(server, again)
    job = (await server.get(f"/jobs/{again}")).json()
    assert (job["parent_id"], job["labels"]) == (first, {"run": "7"})
    assert job["job_input"]["output_dir"] == "data/out-2/"
    (listed,) = (await server.get("/jobs?limit=1&sort=created")).json()["jobs"]
    assert (listed["id"], listed["parent_id"]) == (again, first)
    own = (await server.get(f"/jobs/{first}/outputs")).json()
    assert own == {
        "outputs": [
            {**output, "job_id": first, "container": 0}
            for output in (await server.get(f"/jobs/{first}")).json()["outputs"]
        ],
        "jobs": [first],
        "open_inputs": 0,
    }
    family = (await server.get(f"/jobs/{first}/outputs?family=true&limit=1")).json()
    assert [o["file"] for o in family["outputs"]] == ["data/out-2/a.out"]
    assert (family["jobs"], family["next"]) == ([first, again], "data/out-2/a.out")
    after = {"family": True, "after": family["next"]}
    rest = (await server.get(f"/jobs/{again}/outputs", params=after)).json()
    assert [o["file"] for o in rest["outputs"]] == ["data/out-2/b.out"]
    assert "next" not in rest


@pytest.mark.slow
async def test_error_responses(server: ServerHarness) -> None:
    await server.prepare("a", "b")
    job_id = await submit(server, submission())
    await wait_for(server, job_id)
    for body, appcode in (
        ({"failed": True}, 30001),
        ({"containers": [0]}, 30001),
        ({"failed": True, "containers": []}, 30010),
        ({"failed": True, "containers": [-1]}, 30010),
        ({"memory": 1}, 30010),
        ({"runtime": 0}, 30010),
        ({"output_dir": "bucket"}, 30010),
        ({"output_dir": "cts-logs/container_logs/x"}, 20010),
        ({"memory": "900GB"}, 30001),
        ({"cpus": 1}, 30010),
    ):
        checked = await server.post(f"/jobs/{job_id}/resubmit/check", json=body)
        refused = await server.post(f"/jobs/{job_id}/resubmit", json=body)
        assert checked.json()["error"]["message"] == refused.json()["error"]["message"]
        assert refused.json()["error"]["appcode"] == appcode, body
    for query in ("limit=0", "limit=10001", "after=", "family=x"):
        refused = await server.get(f"/jobs/{job_id}/outputs?{query}")
        assert refused.json()["error"]["appcode"] == 30010, query
    assert len((await server.get("/jobs")).json()["jobs"]) == 1
