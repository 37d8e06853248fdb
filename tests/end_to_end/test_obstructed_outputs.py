"""Outputs in whose way there is an object, or that are in the way of others, at every kind of object store.

A directory and versitygw refuse them. MinIO takes them, and leaves out of listings what lies below another object.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.harness.server import ServerHarness, submission, submit, wait_for
from tests.services.s3 import S3Server

pytestmark = pytest.mark.slow

WRITER = """#!/bin/sh
for name; do mkdir -p "$(dirname "$name")"; echo x > "$name"; done
if [ "$N" = 0 ]; then echo x > clash; elif [ "$N" = 1 ]; then mkdir clash; echo x > clash/below; fi
"""


@pytest.fixture
def refuses(request: pytest.FixtureRequest) -> bool:
    """Whether the store takes no object below another one."""
    return "minio" not in request.node.name


@pytest.fixture
def cts_settings(s3: S3Server | None) -> dict[str, Any]:
    # With folders of the user's own, a check writes nothing there to try it.
    given = {"log_dir": "logs/container_logs", "allowed_paths": ["data/in/", "data/out/"]}
    if s3 is None:
        return given
    used = s3.settings()
    keys = {"access_key": used.access_key, "access_secret": used.access_secret.get_secret_value()}
    return {**given, "objects": "s3", "s3": {"url": used.url, **keys}}


@pytest.fixture
async def writing(server: ServerHarness, tmp_path: Path) -> ServerHarness:
    """The server with a program that writes the files that its arguments name, and with two inputs."""
    program = tmp_path / "writer"
    program.write_text(WRITER)
    program.chmod(0o755)
    response = await server.post("/admin/images/host/writer", json={"executable": str(program)})
    assert response.status_code == 200, response.text
    for name in ("a", "b"):
        await server.upload(f"data/in/{name}", b"x")
    return server


def _job(*names: str, **changes: Any) -> dict[str, Any]:
    params = {"args": list(names), "environment": changes.pop("environment", {})}
    return submission(image="host/writer", params=params, **changes)


async def _ended(server: ServerHarness, body: dict[str, Any]) -> dict[str, Any]:
    job_id = await submit(server, body)
    await wait_for(server, job_id)
    job: dict[str, Any] = (await server.get(f"/jobs/{job_id}")).json()
    containers = (await server.get(f"/jobs/{job_id}/containers")).json()["containers"]
    job["stored"] = sorted(file["file"] for c in containers for file in c.get("outputs") or ())
    return job


async def _listed(server: ServerHarness, prefix: str) -> list[str]:
    page = (await server.get("/files", params={"prefix": prefix})).json()
    return [file["path"] for file in page["objects"]]


async def test_an_output_below_an_object_keeps_no_other_from_the_store(
    writing: ServerHarness, *, refuses: bool
) -> None:
    await writing.upload("data/out/x", b"in the way")
    names = [f"f{number}" for number in range(8)]
    job = await _ended(writing, _job("x/y.txt", *names))
    others = [f"data/out/{name}" for name in names]
    assert await _listed(writing, "data/out/") == [*others, "data/out/x"]
    if refuses:
        assert (job["state"], job["stored"]) == ("error", others)
        assert "Outputs that could not be stored: 'x/y.txt' (" in job["error"]
        return
    assert (job["state"], job["stored"]) == ("complete", [*others, "data/out/x/y.txt"])
    (warning,) = job["warnings"]
    assert "has data/out/x/y.txt, and leaves it out of listings" in warning
    assert "because of the object data/out/x in" in warning
    # It is found by its key, also where its folder is not listed.
    assert await _listed(writing, "data/out/x/y.txt") == ["data/out/x/y.txt"]
    content = await writing.get("/files/content", params={"path": "data/out/x/y.txt"})
    assert content.content == b"x\n"


async def test_an_output_in_the_place_of_a_folder_keeps_no_other_from_the_store(
    writing: ServerHarness, *, refuses: bool
) -> None:
    await writing.upload("data/out/x/before", b"of an earlier job")
    job = await _ended(writing, _job("x", "y"))
    if refuses:
        assert (job["state"], job["stored"]) == ("error", ["data/out/y"])
        assert "Outputs that could not be stored: 'x' (" in job["error"]
        assert await _listed(writing, "data/out/") == ["data/out/x/before", "data/out/y"]
        return
    assert (job["state"], job["stored"]) == ("complete", ["data/out/x", "data/out/y"])
    (warning,) = job["warnings"]
    assert warning.startswith("Container 0: Stored in the place of folders")
    assert warning.endswith(": x")
    assert await _listed(writing, "data/out/x/before") == ["data/out/x/before"]


async def test_containers_whose_outputs_are_in_each_others_way(
    writing: ServerHarness, *, refuses: bool
) -> None:
    numbered = {"environment": {"N": {"type": "container_number"}}, "num_containers": 2}
    job = await _ended(writing, _job(**numbered))
    if refuses:
        assert (job["state"], len(job["stored"])) == ("error", 1)
        assert "could not be stored: 'clash" in job["error"]
        return
    assert (job["state"], len(job["stored"])) == ("complete", 2)
    assert any("has data/out/clash/below, and leaves it out" in text for text in job["warnings"])


async def test_a_check_warns_of_objects_in_the_place_of_folders(writing: ServerHarness) -> None:
    await writing.upload("data/out/1", b"in the way")
    warning = "There is an object 'data/out/1' where outputs of this job need a folder"
    for changes in ({"output_dir": "data/out/1"}, {"output_dir": "data/out/1/deeper"}):
        checked = (await writing.post("/jobs/check", json=_job("x", **changes))).json()
        assert any(warning in text for text in checked["warnings"])
    body = _job("x", num_containers=2)
    body["params"]["declobber"] = True
    checked = (await writing.post("/jobs/check", json=body)).json()
    assert any(warning in text for text in checked["warnings"])
    checked = (await writing.post("/jobs/check", json=_job("x"))).json()
    assert not any("There is an object" in text for text in checked["warnings"])
