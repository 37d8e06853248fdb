"""Jobs over REST: submit, check, run, read, cancel."""

from __future__ import annotations

import asyncio
import json
import uuid

import pytest

from tests.harness.server import (
    IDEMPOTENCY_KEY,
    ServerHarness,
    running_server,
    submission,
    submit,
    wait_for,
)


@pytest.mark.slow
async def test_a_job_runs(server: ServerHarness) -> None:
    await server.prepare("a", "b")
    body = submission(num_containers=2, labels={"project": "soil", "run": "7=x"})
    job_id = await submit(server, body)
    assert uuid.UUID(job_id)
    status = await wait_for(server, job_id)
    assert status["state"] == "complete"
    # Nobody imports outputs where no topic tells of jobs, and clients of the deployed service wait for this.
    assert list(status["admin_meta"]) == ["cse_event_processing_no_operation"]
    assert all(step["time"].endswith("Z") for step in status["transition_times"])

    job = (await server.get(f"/jobs/{job_id}")).json()
    assert [output["file"] for output in job["outputs"]] == ["data/out/a.out", "data/out/b.out"]
    assert all(output["crc64nvme"] for output in job["outputs"])
    assert job["labels"] == body["labels"]
    assert "labels" not in job["job_input"]
    assert "error" not in job
    assert "trans_id" not in job["transition_times"][0]
    assert job["job_input"]["runtime"] == "PT1M"
    assert (body["output_dir"], job["job_input"]["output_dir"]) == ("data/out", "data/out/")

    assert (await server.get(f"/jobs/{job_id}/exit_codes")).json() == {"exit_codes": [0, 0]}
    containers = (await server.get(f"/jobs/{job_id}/containers")).json()["containers"]
    assert [c["number"] for c in containers] == [0, 1]
    assert [c["inputs"][0]["file"] for c in containers] == ["data/in/a", "data/in/b"]
    assert containers[1]["outputs"][0]["file"] == "data/out/b.out"

    log = await server.get(f"/jobs/{job_id}/log/1/stdout")
    assert log.headers["content-type"] == "text/plain; charset=utf-8"
    assert log.headers["content-disposition"] == "attachment; filename=container-1-stdout.txt"
    assert log.text.startswith("tool: working on ")
    part = await server.get(f"/jobs/{job_id}/log/1/stdout?seek=6&length=7")
    assert part.text == "working"
    past = await server.get(f"/jobs/{job_id}/log/1/stdout?seek={len(log.content)}")
    assert (past.status_code, past.json()["error"]["appcode"]) == (400, 30001)
    assert "complain" in (await server.get(f"/jobs/{job_id}/log/0/stderr?seek=0")).text
    beyond = await server.get(f"/jobs/{job_id}/log/2/stdout")
    assert beyond.json()["error"]["message"] == f"Container number must be < 2 for job {job_id}"

    why = (await server.get(f"/jobs/{job_id}/why")).json()
    assert why == {"state": "complete", "reasons": []}
    methods = await server.get(f"/jobs/{job_id}/methods")
    assert methods.headers["content-type"] == "text/plain; charset=utf-8"
    assert methods.text.startswith(f"Job {job_id} ran in the CDM Task Service")

    again = await server.put(f"/jobs/{job_id}/cancel", headers={"Content-Type": "application/json"})
    assert (again.status_code, again.json()["error"]["appcode"]) == (404, 40040)


@pytest.mark.slow
async def test_listing(server: ServerHarness) -> None:
    await server.prepare("a", "b")
    first = await submit(server, submission(labels={"run": "1"}))
    await wait_for(server, first)
    second = await submit(server, submission(labels={"run": "2"}))
    await wait_for(server, second)

    async def ids(query: str) -> list[str]:
        jobs = (await server.get(f"/jobs/?{query}")).json()["jobs"]
        assert not any("input_files" in job["job_input"] or "outputs" in job for job in jobs)
        return [job["id"] for job in jobs]

    assert await ids("") == [second, first]
    assert await ids("limit=1") == [second]
    assert await ids("label=run%3D1") == [first]
    assert await ids("state=error") == []
    assert await ids("state=complete&cluster=local") == [second, first]
    ended = (await server.get(f"/jobs/{second}/status")).json()["transition_times"][-1]["time"]
    assert await ids(f"after={ended}") == [second]
    assert await ids(f"before={ended}") == [first]


@pytest.mark.slow
async def test_cancel(server: ServerHarness) -> None:
    await server.prepare("a", "b")
    body = submission()
    body["params"]["environment"]["WORK"] = "60"
    job_id = await submit(server, body)
    running = await wait_for(server, job_id, "job_submitted")
    assert running["state"] == "job_submitted"
    response = await server.put(
        f"/jobs/{job_id}/cancel", headers={"Content-Type": "application/json"}
    )
    assert (response.status_code, response.content) == (204, b"")
    assert (await wait_for(server, job_id, "canceled"))["state"] == "canceled"


async def test_labels_are_changed_afterwards(server: ServerHarness) -> None:
    await server.prepare("a", "b")
    job_id = await submit(server, submission(labels={"study": "soil"}))
    changed = await server.put(f"/jobs/{job_id}/labels", json={"labels": {"study": "sea", "n": ""}})
    assert changed.status_code == 204
    assert (await server.get(f"/jobs/{job_id}")).json()["labels"] == {"study": "sea", "n": ""}
    assert (await server.get("/jobs/labels")).json() == {"keys": ["n", "study"]}
    refused = await server.put(f"/jobs/{job_id}/labels", json={"labels": {"=": "x"}})
    assert (refused.status_code, refused.json()["error"]["appcode"]) == (400, 30010)
    await server.request("PUT", f"/jobs/{job_id}/cancel")
    await wait_for(server, job_id)


async def test_check_stores_nothing(server: ServerHarness) -> None:
    await server.prepare("a", "b")
    checked = (await server.post("/jobs/check", json=submission(num_containers=2))).json()
    assert checked["containers"][1]["argv"][-1] == "/input_files/b"
    assert checked["input_bytes"] == 2
    assert checked["warnings"]
    assert (await server.get("/jobs")).json() == {"jobs": []}
    refused = await server.post("/jobs/check", json=submission(input_files=["data/in/nope"]))
    error = refused.json()["error"]
    assert (refused.status_code, error["appcode"]) == (404, 40010)
    assert error["message"] == "The path 'data/in/nope' was not found on the s3 system"
    draft = submission(input_files=["data/in/a", "data/in/nope"], num_containers=2)
    found = (await server.post("/jobs/check?all=true&containers=1", json=draft)).json()
    assert found["problems"] == [
        {"loc": ["body", "input_files", 1], "appcode": 40010, "message": error["message"]}
    ]
    assert [c["number"] for c in found["containers"]] == [1]
    for query in ("containers=1,", "containers=-1", "containers="):
        refused = await server.post(f"/jobs/check?{query}", json=draft)
        assert refused.json()["error"]["appcode"] == 30010


@pytest.mark.parametrize(
    ("changes", "appcode"),
    [
        ({"image": "host/other"}, 40030),
        ({"image": "host/BAD name"}, 30040),
        ({"cluster": "kbase"}, 60020),
        ({"cpus": 200}, 30001),
        ({"output_dir": "cts-logs/container_logs/x"}, 20010),
        ({"input_files": ["nobucket/in/a"]}, 40010),
        ({"input_files": ["data/in/a"], "num_containers": 2}, 30010),
    ],
)
async def test_error_responses(server: ServerHarness, changes: dict, appcode: int) -> None:
    await server.prepare("a", "b")
    response = await server.post("/jobs", json=submission(**changes))
    assert response.json()["error"]["appcode"] == appcode
    assert (await server.get("/jobs")).json() == {"jobs": []}


@pytest.mark.parametrize(
    "path", ["", "/status", "/exit_codes", "/containers", "/why", "/methods", "/log/0/stdout"]
)
async def test_unknown_job(server: ServerHarness, path: str) -> None:
    response = await server.get(f"/jobs/no-such-job{path}")
    error = response.json()["error"]
    assert (response.status_code, error["appcode"]) == (404, 40040)
    assert error["message"] == "No job with ID 'no-such-job' exists"


@pytest.mark.slow
async def test_logs_before_the_container_ran(server: ServerHarness) -> None:
    await server.prepare("a", "b")
    # Both cpus are taken, so that the second job waits.
    body = submission(cpus=2)
    body["params"]["environment"]["WORK"] = "60"
    first = await submit(server, body)
    await wait_for(server, first, "job_submitted")
    second = await submit(server, {**body, "output_dir": "data/other"})
    response = await server.get(f"/jobs/{second}/log/0/stdout")
    error = response.json()["error"]
    assert (response.status_code, error["appcode"]) == (404, 40070)
    assert error["message"] == f"Job ID {second} has no logs available"
    for job_id in (first, second):
        await server.put(f"/jobs/{job_id}/cancel")
        await wait_for(server, job_id, "canceled")


# Idempotency-Key.


@pytest.mark.slow
async def test_idempotency_key(server: ServerHarness) -> None:
    await server.prepare("a", "b")
    key = str(uuid.uuid4())
    ids = await asyncio.gather(*(submit(server, submission(), key) for _ in range(8)))
    assert len(set(ids)) == 1
    # Written differently, and the same when parsed.
    assert await submit(server, submission(memory="10MB", runtime=60, labels={}), key) == ids[0]
    assert len((await server.get("/jobs")).json()["jobs"]) == 1
    other = await server.post("/jobs", json=submission(cpus=2), headers={IDEMPOTENCY_KEY: key})
    assert (other.status_code, other.json()["error"]["appcode"]) == (400, 30001)
    assert await submit(server, submission(), "another key") != ids[0]


async def test_idempotency_key_is_looked_up_before_the_other_checks(server: ServerHarness) -> None:
    await server.prepare("a", "b")
    job_id = await submit(server, submission(), "k")
    assert (await server.request("DELETE", "/admin/images/host/tool")).status_code == 204
    assert await submit(server, submission(), "k") == job_id


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there"])
async def test_bad_key(server: ServerHarness, key: str) -> None:
    response = await server.post("/jobs", json=submission(), headers={IDEMPOTENCY_KEY: key})
    assert response.json()["error"]["appcode"] == 30001


@pytest.mark.slow
async def test_idempotency_key_outlives_the_server(isolated) -> None:
    async with running_server(isolated, {}) as server:
        await server.prepare("a", "b")
        job_id = await submit(server, submission(), "k")
    async with running_server(isolated, {}) as server:
        assert await submit(server, submission(), "k") == job_id
        assert (await wait_for(server, job_id))["state"] == "complete"


# Images and sites.


async def test_images(server: ServerHarness) -> None:
    assert (await server.get("/images")).json() == {"data": []}
    await server.prepare()
    (image,) = (await server.get("/images/", token=None)).json()["data"]
    assert (image["name"], image["tag"], image["registered_by"]) == ("host/tool", "latest", "ana")
    for name in (
        "host/tool",
        "host/tool:latest",
        f"host/tool@{image['digest']}",
        "host%2Ftool",
        "/host//tool/",
    ):
        assert (await server.get(f"/images/{name}", token=None)).json() == image
    for name in ("host/nope", "fake/image"):
        response = await server.get(f"/images/{name}", token=None)
        assert response.json()["error"]["appcode"] == 40030
    assert "No image docker.io/fake/image with tag 'latest' exists" in response.text
    again = await server.post(
        "/admin/images/host/tool", json={"executable": image["entrypoint"][0]}
    )
    assert again.json()["error"]["appcode"] in (50000, 50010)
    assert (await server.post("/admin/images/host/bare")).status_code == 400
    assert (await server.request("DELETE", "/admin/images/host/tool")).status_code == 204
    assert (await server.request("DELETE", "/admin/images/host/tool")).status_code == 404


async def test_deactivated_site(server: ServerHarness) -> None:
    await server.prepare("a", "b")
    assert (await server.request("DELETE", "/admin/sites/local/active")).status_code == 204
    assert [s["active"] for s in (await server.get("/sites")).json()["sites"]] == [False]
    assert (await server.post("/jobs", json=submission())).json()["error"]["appcode"] == 60010
    assert (await server.put("/admin/sites/local/active")).status_code == 204
    await submit(server, submission())
    assert (await server.put("/admin/sites/kbase/active")).json()["error"]["appcode"] == 60020
    assert (await server.put("/admin/sites/nope/active")).json()["error"]["appcode"] == 30010


@pytest.mark.slow
async def test_large_submission(server: ServerHarness) -> None:
    await server.prepare("a", "b")
    body = submission(input_files=[f"data/in/{'x' * 200}{n}" for n in range(10_000)])
    assert len(json.dumps(body)) > 2_000_000
    response = await server.post("/jobs/check", json=body)
    assert response.json()["error"]["appcode"] == 40010
