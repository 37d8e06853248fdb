"""Every route that takes a path, asked for every odd path, at every kind of object store.

versitygw resolves ``..`` as a file system does, MinIO refuses it: a path that meant something else at one of them must not
get there.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.harness.server import ServerHarness, submission, submit, wait_for
from tests.services.s3 import S3Server

pytestmark = pytest.mark.slow

SECRET = b"what only bob may read"
OTHERS = {
    "data/bob/secret": SECRET,
    "data/shared/x": b"everybody's",
    "logs/container_logs/j/o": b"log",
}
"""Objects of others. Nothing that is asked for may change one."""
REFUSED = (
    "data/ana/../bob/secret",
    "data/ana/../ana/in",
    "data/../logs/container_logs/j/o",
    "data/ana/./in",
    "data/./ana/in",
    "data/ana/..",
    "data/ana/.",
    "data/..",
    "data/ana//in",
    "data/bob/secret",
    "logs/container_logs/j/o",
    "../data/ana/in",
)
"""No user may have these, in whatever place."""
NO_OBJECT = (
    *REFUSED,
    "data/ana",
    "data/shared",
    "data/ana/",
    "data/shared/",
    "data/ana/in/",
    "logs/container_logs",
)
"""Nor these as an object: they are folders, and one in the place of a folder hides all that is in it."""
LEGAL = (*OTHERS, "data/ana", "data/shared", "logs/container_logs")
"""Those of them that are refused for whose they are."""
NO_FOLDER = (*REFUSED, "logs/container_logs", "logs/container_logs/")
STRANGE = (
    f"data/ana/{'x' * 256}",
    f"data/ana/{'ä' * 128}/x",
    f"data/ana/{'y/' * 505}z",
    "data/ana/..\\..\\bob\\secret",
    "data/ana/%2e%2e/bob/secret",
    "data/ana/...",
    "data/ana/ ",
    "data/ana/in/below",
)
"""Legal paths, which a store may refuse."""

Ask = Callable[[str], tuple[str, str, dict[str, Any]]]


def _job(**changes: Any) -> dict[str, Any]:
    return submission(**{"input_files": ["data/ana/in"], "output_dir": "data/ana/out", **changes})


OBJECT_ROUTES: Mapping[str, Ask] = {
    "input": lambda path: ("POST", "/jobs", {"json": _job(input_files=[path])}),
    "input with a checksum": lambda path: (
        "POST",
        "/jobs",
        {"json": _job(input_files=[{"file": path, "crc64nvme": "AAAAAAAAAAA="}])},
    ),
    "checked input": lambda path: ("POST", "/jobs/check", {"json": _job(input_files=[path])}),
    "content": lambda path: ("GET", "/files/content", {"params": {"path": path}}),
    "upload": lambda path: ("PUT", "/files/content", {"params": {"path": path}, "content": b"new"}),
    "overwriting upload": lambda path: (
        "PUT",
        "/files/content",
        {"params": {"path": path, "overwrite": "true"}, "content": b"new"},
    ),
    "checksum": lambda path: ("POST", "/files/checksum", {"json": {"file": path}}),
    "verify": lambda path: ("POST", "/files/verify", {"json": {"file": path}}),
}
FOLDER_ROUTES: Mapping[str, Ask] = {
    "output folder": lambda path: ("POST", "/jobs", {"json": _job(output_dir=path)}),
    "checked output folder": lambda path: ("POST", "/jobs/check", {"json": _job(output_dir=path)}),
    "listing": lambda path: ("GET", "/files", {"params": {"prefix": path}}),
    "grouped listing": lambda path: (
        "GET",
        "/files",
        {"params": {"prefix": path, "folders": "true"}},
    ),
}
ADMIN_ROUTES: Mapping[str, Ask] = {
    "reference data": lambda path: ("POST", f"/admin/refdata/{quote(path, safe='')}", {}),
}
"""An admin registers any object, so that only the form of the path matters."""


@pytest.fixture
def cts_settings(s3: S3Server | None) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "allowed_paths": ["data/{user}/", "data/shared/"],
        "log_dir": "logs/container_logs",
    }
    if s3 is not None:
        used = s3.settings()
        keys = {
            "access_key": used.access_key,
            "access_secret": used.access_secret.get_secret_value(),
        }
        settings |= {"objects": "s3", "s3": {"url": used.url, **keys}}
    return settings


async def _put_others(server: ServerHarness, s3: S3Server | None) -> None:
    for path, content in OTHERS.items():
        if s3 is not None:
            s3.put({path: content})
        else:
            file = Path(server.engine.settings.objects_dir, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)


async def _stored(server: ServerHarness) -> dict[str, bytes]:
    """Return all objects but those of workers' logs, as the store itself has them."""
    objects = server.engine._objects
    found = {}
    for bucket in ("data/", "logs/"):
        for entry in (await objects.list(bucket)).objects:
            pieces = [piece async for piece in objects.read(entry.path)]
            found[entry.path] = b"".join(pieces)
    return found


async def _failures(
    server: ServerHarness,
    routes: Mapping[str, Ask],
    paths: Iterable[str],
    statuses: Container[int],
) -> list[str]:
    """Ask every route for every path; return what was answered with another status, or with the secret."""
    failures = []
    for path in paths:
        for what, make in routes.items():
            method, route, options = make(path)
            response = await server.request(method, route, **options)
            if response.status_code not in statuses or SECRET in response.content:
                failures.append(f"{what} {path!r}: {response.status_code} {response.text[:200]}")
    return failures


async def test_no_odd_path_reaches_what_it_should_not(
    server: ServerHarness, s3: S3Server | None
) -> None:
    await server.register_image()
    await _put_others(server, s3)
    await server.upload("data/ana/in", b"input")
    before = await _stored(server)
    refused = (400, 403)
    assert await _failures(server, OBJECT_ROUTES, NO_OBJECT, refused) == []
    assert await _failures(server, FOLDER_ROUTES, NO_FOLDER, refused) == []
    # In a URL several slashes are one, and the last one says nothing.
    illegal = [
        path
        for path in NO_OBJECT
        if path not in LEGAL and path == path.rstrip("/").replace("//", "/")
    ]
    assert await _failures(server, ADMIN_ROUTES, illegal, refused) == []
    assert await _stored(server) == before
    assert (await server.get("/jobs")).json()["jobs"] == []

    # What is legal may be refused by a store, but is neither a fault nor an outage.
    every = {**OBJECT_ROUTES, **FOLDER_ROUTES, **ADMIN_ROUTES}
    assert await _failures(server, every, STRANGE, range(500)) == []
    for job in (await server.get("/jobs")).json()["jobs"]:
        await wait_for(server, job["id"])
    after = await _stored(server)
    assert {path: after.get(path) for path in before} == before
    # Jobs with such folders may have stored logs.
    new = {path for path in after.keys() - before.keys() if not path.startswith("logs/")}
    assert all(path.startswith("data/ana/") for path in new)
    ready = await server.get("/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")


async def test_no_job_is_resubmitted_into_an_odd_folder(
    server: ServerHarness, s3: S3Server | None
) -> None:
    await server.register_image()
    await _put_others(server, s3)
    await server.upload("data/ana/in", b"input")
    job_id = await submit(server, _job())
    assert (await wait_for(server, job_id))["state"] == "complete"
    for path in NO_FOLDER:
        response = await server.post(f"/jobs/{job_id}/resubmit", json={"output_dir": path})
        assert response.status_code in (400, 403), (path, response.text)
    assert len((await server.get("/jobs")).json()["jobs"]) == 1
