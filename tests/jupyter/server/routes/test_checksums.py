"""Checksums in the background over REST, and the search for objects that lack one."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.harness.server import IDEMPOTENCY_KEY, ServerHarness


async def test_missing_checksums_are_found_and_computed(
    server: ServerHarness, tmp_path: Path
) -> None:
    await server.upload("data/in/a.fa", b"a")
    (next(tmp_path.glob("**/objects/data/in")) / "b.fa").write_bytes(b"b")
    roots = (await server.get("/files/roots")).json()["roots"]
    assert {"path": "data/", "perm": "write"} in roots
    query = {"prefix": "data/", "match": "*.fa"}
    total = (await server.get("/files/summary", params=query)).json()
    assert total == {"objects": 2, "bytes": 2, "missing": 1, "scanned": 2, "complete": True}
    found = (await server.get("/files", params={**query, "checksum": "missing"})).json()
    assert ([o["path"] for o in found["objects"]], found["scanned"]) == (["data/in/b.fa"], 2)
    assert "scanned" not in (await server.get("/files", params={"prefix": "data/"})).json()
    refused = await server.get("/files", params={"prefix": "data/", "match": "[b-a]"})
    assert (refused.status_code, refused.json()["error"]["appcode"]) == (400, 30001)

    files = [{"file": o["path"], "etag": o["etag"]} for o in found["objects"]]
    key = {IDEMPOTENCY_KEY: "k"}
    async with server.events() as events:
        asked = await server.post("/checksums", json={"files": files}, headers=key)
        path = f"/checksums/{asked.json()['id']}"
        async with asyncio.timeout(30):
            async for event in events:
                if event["event"] == "checksum" and event["state"] == "ended":
                    break
    assert (event["checksums_id"], event["files"]) == (asked.json()["id"], {"done": 1})
    (result,) = (await server.get(path)).json()["files"]
    (stored,) = (await server.get("/files", params={"prefix": "data/in/b"})).json()["objects"]
    assert (result["state"], result["crc64nvme"]) == ("done", stored["crc64nvme"])
    (listed,) = (await server.get("/checksums")).json()["tasks"]
    assert (listed["id"], listed["state"]) == (asked.json()["id"], "ended")
    again = await server.post("/checksums", json={"files": files}, headers=key)
    assert again.json() == asked.json()
    other = await server.post("/checksums", json={"files": files * 2}, headers=key)
    assert (other.status_code, other.json()["error"]["appcode"]) == (400, 30001)
    assert (await server.request("DELETE", path)).status_code == 204
    missing = await server.get("/checksums/none")
    assert (missing.status_code, missing.json()["error"]["appcode"]) == (404, 40080)
