"""The admins' routes for jobs of all users."""

from __future__ import annotations

import json

import pytest

from tests.harness.server import ServerHarness, submission, submit, wait_for


@pytest.mark.slow
async def test_jobs_for_admins(server: ServerHarness) -> None:
    await server.prepare("a", "b")
    job_id = await submit(server, submission(num_containers=2))
    await wait_for(server, job_id)
    job = (await server.get(f"/admin/jobs/{job_id}")).json()
    assert job["cleaned"] is False
    assert all(step["trans_id"] for step in job["transition_times"])
    assert (await server.get(f"/admin/jobs/{job_id}/exit_codes")).json() == {"exit_codes": [0, 0]}
    subjobs = (await server.get(f"/admin/jobs/{job_id}/container")).json()["subjobs"]
    assert [s["sub_id"] for s in subjobs] == [0, 1]
    one = await server.get(f"/admin/jobs/{job_id}/container/1")
    assert one.json() == subjobs[1]
    absent = await server.get(f"/admin/jobs/{job_id}/container/2")
    assert (absent.status_code, absent.json()["error"]["appcode"]) == (404, 40050)
    listed = (await server.get("/admin/jobs?user=ana")).json()["jobs"]
    assert [job["id"] for job in listed] == [job_id]
    assert (await server.get("/admin/jobs?user=bob")).json() == {"jobs": []}
    log = await server.get(f"/admin/jobs/{job_id}/log/1/stdout?tail=5")
    assert (log.status_code, int(log.headers["x-cts-log-size"]) > len(log.content)) == (200, True)
    assert log.headers["x-cts-log-ended"] == "true"
    assert (await server.get(f"/admin/jobs/{job_id}/log/1/stderr")).status_code == 200
    async with server.events("/admin/events", after="2020-01-01T00:00:00Z") as events:
        async for event in events:
            if event.get("state") == "complete":
                break
    assert event["job_id"] == job_id
    runner = await server.get(f"/admin/jobs/{job_id}/runner_status?container_number=1")
    assert runner.json()["status"] == "ended"

    meta = {"set_fields": {"a.b": 1, "done": "x", "seen": True}, "unset_keys": []}
    assert (await server.put(f"/admin/jobs/{job_id}/meta", json=meta)).status_code == 204
    status = (await server.get(f"/jobs/{job_id}/status")).json()
    del status["admin_meta"]["cse_event_processing_no_operation"]
    assert status["admin_meta"] == {"a.b": 1, "done": "x", "seen": 1}
    assert status["admin_meta"]["seen"] is not True
    assert (await server.put(f"/admin/jobs/{job_id}/notify?state=complete")).status_code == 204
    for _ in range(2):
        assert (await server.request("DELETE", f"/admin/jobs/{job_id}/clean")).status_code == 204
    assert (await server.get(f"/admin/jobs/{job_id}")).json()["cleaned"] is True
    sent = await server.post("/admin/unsent_notifications?notification_age=PT1M")
    assert sent.json() == {"jobs": 0, "transitions": 0}
    again = await server.put(f"/admin/jobs/{job_id}/cancel")
    assert (again.status_code, again.json()["error"]["appcode"]) == (404, 40040)


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("GET", "/admin/jobs/none", None, (404, 40040)),
        ("GET", "/admin/jobs/none/container/-1", None, (400, 30010)),
        ("GET", "/admin/jobs?user=A", None, (400, 30010)),
        ("PUT", "/admin/jobs/none/meta", {}, (400, 30001)),
        ("PUT", "/admin/jobs/none/meta", {"set": {}}, (400, 30010)),
        ("PUT", "/admin/jobs/none/meta", {"set_fields": {"a": "\ud800"}}, (400, 30010)),
        ("PUT", "/admin/jobs/none/meta", {"set_fields": {"\ud800": 1}}, (400, 30010)),
        ("PUT", "/admin/jobs/none/notify?state=gone", None, (400, 30010)),
        ("PUT", "/admin/jobs/none/notify", None, (400, 30010)),
        ("PUT", "/admin/jobs/none/notify?state=created", None, (404, 40040)),
        ("DELETE", "/admin/jobs/none/clean?force=true", None, (404, 40040)),
        ("POST", "/admin/unsent_notifications?notification_age=PT59S", None, (400, 30010)),
    ],
)
async def test_error_responses(server: ServerHarness, method, path, body, expected) -> None:
    content = None if body is None else json.dumps(body)
    response = await server.request(
        method, path, content=content, headers={"Content-Type": "application/json"}
    )
    assert (response.status_code, response.json()["error"]["appcode"]) == expected
