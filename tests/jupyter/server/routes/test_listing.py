"""Listing and counting jobs over REST."""

from __future__ import annotations

import pytest

from tests.harness.server import ServerHarness, submission, submit, wait_for


@pytest.fixture
def cts_settings() -> dict:
    return {"limits": {"submissions_per_min": 8, "streams": 1}}


@pytest.mark.slow
async def test_pages_searches_and_counts(server: ServerHarness) -> None:
    await server.prepare("a", "b")
    jobs = [
        await submit(server, submission(labels={"run": str(n)}, output_dir=f"data/Out{n}"))
        for n in range(5)
    ]
    for job_id in jobs:
        await wait_for(server, job_id)

    async def pages(path: str, query: str) -> list[list[str]]:
        pages, cursor = [], ""
        while True:
            page = (await server.get(f"{path}?{query}{cursor}")).json()
            pages.append([job["id"] for job in page["jobs"]])
            if "next" not in page:
                return pages
            cursor = f"&cursor={page['next']}"

    for path in ("/jobs", "/admin/jobs"):
        up = await pages(path, "limit=2&sort=created&order=asc")
        assert [job_id for page in up for job_id in page] == jobs
        assert [len(page) for page in up] == [2, 2, 1]
        assert await pages(path, "text=OUT3") == [[jobs[3]]]
        assert await pages(path, "text=run%3D2&image=host/tool:latest&ended=true") == [[jobs[2]]]
        assert await pages(path, "image=host/tool:v9") == [[]]
        assert await pages(path, "ended=false") == [[]]
        counts = (await server.get(f"{path}/counts")).json()
        assert counts == {"counts": [{"cluster": "local", "state": "complete", "count": 5}]}
    assert (await server.get("/admin/jobs/counts?user=bob")).json() == {"counts": []}
    first = (await server.get("/jobs?limit=2")).json()
    assert "is_cut" not in first
    for query, code in (
        ("cursor=nonsense", 30001),
        (f"cursor={first['next']}&order=asc", 30001),
        ("sort=size", 30010),
        ("image=A!", 30040),
        ("label=novalue", 30010),
    ):
        refused = await server.get(f"/jobs?{query}")
        assert (refused.status_code, refused.json()["error"]["appcode"]) == (400, code), query


@pytest.mark.slow
async def test_jobs_that_ended_since_the_read_marker(server: ServerHarness) -> None:
    await server.prepare("a")

    async def run() -> str:
        job_id = await submit(server, submission(input_files=["data/in/a"]))
        await wait_for(server, job_id)
        return job_id

    async def new() -> list[dict]:
        return (await server.get("/jobs?new=true")).json()["jobs"]

    first = await run()
    (seen,) = await new()
    assert seen["id"] == first
    assert len(await new()) == 1, "to be shown is not to be seen"
    until = seen["transition_times"][-1]["time"]
    assert (await server.put("/jobs/last_look", json={"until": until})).status_code == 204
    assert await new() == []
    second = await run()
    assert [job["id"] for job in await new()] == [second]
    # Nobody has seen what is yet to come.
    await server.put("/jobs/last_look", json={"until": "2999-01-01T00:00:00Z"})
    assert await new() == []
    third = await run()
    assert [job["id"] for job in await new()] == [third]


async def test_rate_limit_has_retry_after(server: ServerHarness) -> None:
    await server.prepare("a")
    body = submission(input_files=["data/in/none"])
    for _ in range(8):
        assert (await server.post("/jobs", json=body)).status_code == 404
    refused = await server.post("/jobs", json=body)
    assert refused.status_code == 429
    seconds = refused.headers["retry-after"]
    assert refused.json()["error"]["message"].endswith(f"a minute: try again in {seconds} s")
    assert "appcode" not in refused.json()["error"]
    async with server.events():
        second = await server.get("/events")
        assert (second.status_code, second.headers["retry-after"]) == (429, "10")


@pytest.mark.parametrize(
    "time", ["0", "1e3", "-1", "1.5", "2020-01-01T00:00:00Z", "253402300799999"]
)
async def test_times_in_a_query(server: ServerHarness, time: str) -> None:
    assert (await server.get(f"/jobs?after={time}")).status_code == 200


@pytest.mark.parametrize(
    "time", ["2020-01-01T00:00:00", "253402300800000", "1e99", "nan", "noon", ""]
)
async def test_invalid_times_in_a_query(server: ServerHarness, time: str) -> None:
    refused = await server.get(f"/jobs?after={time}")
    assert (refused.status_code, refused.json()["error"]["appcode"]) == (400, 30010)


async def test_containers_are_counted_where_they_are_asked_for(server: ServerHarness) -> None:
    await server.prepare("a", "b")
    ended = await submit(server, submission())
    await wait_for(server, ended)
    live = await submit(server, submission(params={"environment": {"WORK": "600"}}))
    for path in (f"/jobs/{live}/status", f"/jobs/{ended}/status"):
        assert "containers" not in (await server.get(path)).json()
    status = (await server.get(f"/jobs/{live}/status?containers=true")).json()
    assert sum(status["containers"].values()) == 1
    assert "containers" not in (await server.get(f"/jobs/{ended}/status?containers=true")).json()
    for path in ("/admin/jobs", "/jobs"):
        answer = await server.get(f"{path}?containers=true")
        listed = {j["id"]: j for j in answer.json()["jobs"]}
        assert sum(listed[live]["containers"].values()) == 1
        assert "containers" not in listed[ended]
        assert not any("containers" in j for j in (await server.get(path)).json()["jobs"])
    preview = (await server.get(f"/jobs/{live}?files=false")).json()
    assert preview.keys() == listed[live].keys()
    assert sum(preview["containers"].values()) == 1
    assert "input_files" in (await server.get(f"/jobs/{live}?files=true")).json()["job_input"]
    page = (await server.get(f"/jobs/{live}/containers?detail=false&limit=1&after=0")).json()
    assert page == {"containers": []}
    (container,) = (await server.get(f"/jobs/{live}/containers?detail=false")).json()["containers"]
    assert "inputs" not in container
    await server.request("PUT", f"/jobs/{live}/cancel")
    await wait_for(server, live, "canceled")
    listed = {
        j["id"]: j
        for j in (
            await server.get("/jobs?containers=true&state=canceled&state=complete&state=error")
        ).json()["jobs"]
    }
    assert listed[live]["containers"] == {"canceled": 1}
    assert "containers" not in listed[ended]
    (error,) = (await server.get("/jobs?state=error&state=nope")).json()["error"][
        "request_validation_detail"
    ]
    assert (error["type"], error["loc"]) == ("enum", ["query", "state"])
