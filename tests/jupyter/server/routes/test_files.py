"""Objects over REST: list, upload, download, and transfers that break off."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest

from cts_core.worker.checksum import crc64nvme_text
from cts_jupyter.server.http import base_handler
from tests.harness.disk import fill, small_disk
from tests.harness.server import ServerHarness, running_server

CRC = "x-amz-checksum-crc64nvme"
CONTENT = "/files/content"
DATA = bytes(range(256)) * 4096


def objects_folder(server: ServerHarness) -> Path:
    return server.engine.settings.objects_dir


def leftovers(server: ServerHarness) -> list[Path]:
    return [path for path in (objects_folder(server) / ".cts" / "tmp").glob("*") if path.is_file()]


async def test_round_trip(server: ServerHarness) -> None:
    stored = await server.put(
        CONTENT,
        params={"path": "data/dir/ä b.bin"},
        content=DATA,
        headers={CRC: crc64nvme_text(DATA), "Content-Type": "application/x-odd"},
    )
    assert stored.status_code == 200
    assert stored.json()["crc64nvme"] == crc64nvme_text(DATA)
    assert stored.json()["modified"].endswith("Z")
    response = await server.get(CONTENT, params={"path": "data/dir/ä b.bin"})
    assert response.content == DATA
    assert response.headers[CRC] == crc64nvme_text(DATA)
    assert response.headers["etag"] == f'"{stored.json()["etag"]}"'
    assert response.headers["content-length"] == str(len(DATA))
    assert response.headers["content-type"] == "application/x-odd"
    assert response.headers["content-disposition"] == "attachment; filename*=UTF-8''%C3%A4%20b.bin"
    assert "sandbox" in response.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"seek": 10}, DATA[10:]),
        ({"seek": 10, "length": 5}, DATA[10:15]),
        ({"length": 1}, DATA[:1]),
        ({"seek": len(DATA) - 1, "length": 100}, DATA[-1:]),
        ({"seek": len(DATA)}, b""),
    ],
)
async def test_range(server: ServerHarness, query: dict, expected: bytes) -> None:
    await server.upload("data/x", DATA)
    response = await server.get(CONTENT, params={"path": "data/x", **query})
    assert response.content == expected
    assert CRC not in response.headers


@pytest.mark.parametrize(
    "query",
    [
        {"seek": len(DATA) + 1},
        {"seek": -1},
        {"length": 0},
        {"seek": 2**63},
        {"path": ""},
        {"path": "x" * 2000},
    ],
)
async def test_bad_range(server: ServerHarness, query: dict) -> None:
    await server.upload("data/x", DATA)
    assert (await server.get(CONTENT, params={"path": "data/x", **query})).status_code == 400


async def test_listing(server: ServerHarness) -> None:
    for name in ("a", "b/c", "b/d"):
        await server.upload(f"data/{name}", b"1")
    page = (await server.get("/files", params={"prefix": "data/", "folders": "true"})).json()
    assert [o["path"] for o in page["objects"]] == ["data/a"]
    assert page["folders"] == ["data/b/"]
    page = (await server.get("/files?prefix=data/&limit=2")).json()
    assert [o["path"] for o in page["objects"]] == ["data/a", "data/b/c"]
    page = (await server.get("/files", params={"prefix": "data/", "after": page["next"]})).json()
    assert [o["path"] for o in page["objects"]] == ["data/b/d"]
    assert "next" not in page
    assert (await server.get("/files")).json()["error"]["appcode"] == 30010


@pytest.mark.parametrize(
    ("path", "appcode"),
    [
        ("nokey", 30020),
        ("data/../x", 30020),
        ("/data/x", 30020),
        ("BAD/x", 30020),
        ("data/nope", 40010),
        ("cts-logs/container_logs/x", 20010),
    ],
)
async def test_bad_paths(server: ServerHarness, path: str, appcode: int) -> None:
    await server.upload("data/x", b"1")
    for response in (
        await server.get(CONTENT, params={"path": path}),
        await server.put(CONTENT, params={"path": path}, content=b"x")
        if appcode != 40010
        else None,
    ):
        if response is not None:
            assert response.json()["error"]["appcode"] == appcode, path


async def test_full_disk(tmp_path: Path, isolated: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with small_disk(tmp_path / "disk", "40m") as disk:
        async with running_server(disk, {}) as server:
            await server.upload("data/x", b"1")
            assert (await server.get("/ready")).json()["status"] == "ready"
            filler = fill(disk)
            refused = await server.put(CONTENT, params={"path": "data/y"}, content=DATA)
            error = refused.json()["error"]
            assert (refused.status_code, error["httpcode"]) == (507, 507)
            assert error["httpstatus"] == "Insufficient Storage"
            assert "no space left on the disk for 'data/y': free some" in error["message"]
            (line,) = [
                line for line in capfd.readouterr().err.splitlines() if error["request_id"] in line
            ]
            assert line.startswith("[E ")
            assert (await server.get(CONTENT, params={"path": "data/x"})).content == b"1"
            ready = await server.get("/ready")
            assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
            states = {each["name"]: each["state"] for each in ready.json()["dependencies"]}
            assert states["objects"] == "full"
            filler.unlink()
            server.engine._health._dependencies["objects"].updated = float("-inf")
            assert (await server.get("/ready")).json()["status"] == "ready"
            assert (
                await server.put(CONTENT, params={"path": "data/y"}, content=DATA)
            ).status_code == 200


async def test_write_does_not_overwrite(server: ServerHarness) -> None:
    await server.upload("data/x", b"old")
    refused = await server.put(CONTENT, params={"path": "data/x"}, content=DATA)
    assert (refused.status_code, refused.json()["error"]["appcode"]) == (400, 30001)
    replaced = await server.put(
        CONTENT, params={"path": "data/x", "overwrite": "true"}, content=b"new"
    )
    assert replaced.status_code == 200
    assert (await server.get(CONTENT, params={"path": "data/x"})).content == b"new"


async def test_wrong_checksum_stores_nothing(server: ServerHarness) -> None:
    wrong = base64.b64encode(b"8 bytes.").decode()
    response = await server.put(
        CONTENT, params={"path": "data/x"}, content=DATA, headers={CRC: wrong}
    )
    assert (response.status_code, response.json()["error"]["appcode"]) == (400, 30030)
    assert (await server.get(CONTENT, params={"path": "data/x"})).status_code == 404
    assert leftovers(server) == []


async def test_compressed_upload_is_refused(server: ServerHarness) -> None:
    response = await server.put(
        CONTENT, params={"path": "data/x"}, content=b"x", headers={"Content-Encoding": "gzip"}
    )
    assert response.json()["error"]["appcode"] == 100000


async def test_checksum_and_verify(server: ServerHarness) -> None:
    await server.upload("data/x", b"1")
    dropped = objects_folder(server) / "data" / "dropped.txt"
    dropped.write_bytes(DATA)
    bare = await server.get(CONTENT, params={"path": "data/dropped.txt"})
    assert CRC not in bare.headers
    stale = await server.post("/files/checksum", json={"file": "data/dropped.txt", "etag": "other"})
    assert stale.json()["error"]["appcode"] == 30030
    written = await server.post(
        "/files/checksum",
        json={"file": "data/dropped.txt", "etag": bare.headers["etag"].strip('"')},
    )
    assert written.json()["crc64nvme"] == crc64nvme_text(DATA)
    verified = await server.post("/files/verify", json={"file": "data/dropped.txt"})
    assert verified.json()["checksum"] == "stored"
    other = await server.post(
        "/files/verify", json={"file": "data/dropped.txt", "crc64nvme": crc64nvme_text(b"y")}
    )
    assert other.json()["checksum"] == "mismatch"
    for route in ("checksum", "verify"):
        assert (await server.post(f"/files/{route}", json={"file": "nokey"})).json()["error"][
            "appcode"
        ] == 30010


async def test_changed_bytes_are_never_served(server: ServerHarness) -> None:
    await server.upload("data/x", DATA)
    (objects_folder(server) / "data" / "x").write_bytes(DATA[:-1] + b"!")
    response = await server.get(CONTENT, params={"path": "data/x"})
    assert (response.status_code, response.json()["error"]["appcode"]) == (400, 30030)


# Transfers that break off.


async def open_upload(
    server: ServerHarness, path: str, *lines: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, rest = server.root.removeprefix("http://").partition("/")
    reader, writer = await asyncio.open_connection(*host.split(":"))
    head = [
        f"PUT /{rest}{CONTENT}?path={path} HTTP/1.1",
        f"Host: {host}",
        f"Authorization: Bearer {server.kernel_token}",
        *lines,
        "",
        "",
    ]
    writer.write("\r\n".join(head).encode())
    await writer.drain()
    return reader, writer


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("framing", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("exists", [True, False])
async def test_upload_that_breaks_off_changes_nothing(
    server: ServerHarness, framing: str, *, exists: bool
) -> None:
    if exists:
        await server.upload("data/x", b"old")
    _, writer = await open_upload(server, "data/x&overwrite=true", framing)
    piece = b"x" * 100_000
    writer.write(b"186a0\r\n" + piece + b"\r\n" if "chunked" in framing else piece)
    await writer.drain()
    await until(lambda: leftovers(server))
    writer.close()
    await until(lambda: not leftovers(server))
    response = await server.get(CONTENT, params={"path": "data/x"})
    assert (response.content == b"old") if exists else (response.status_code == 404)


async def test_upload_refused_midway_gets_a_response(server: ServerHarness) -> None:
    reader, writer = await open_upload(server, "nokey", f"Content-Length: {64 << 20}")
    writer.write(b"x" * 1000)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert head.startswith(b"HTTP/1.1 400 ")
    for _ in range(64):
        writer.write(b"x" * (1 << 20))
        await writer.drain()
    writer.close()


async def test_rest_of_a_refused_body_is_read_for_a_limited_time(
    server: ServerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base_handler, "LINGER_SECONDS", 0.2)
    reader, writer = await open_upload(server, "nokey", f"Content-Length: {64 << 20}")
    response = await asyncio.wait_for(reader.read(), 10)
    assert response.startswith(b"HTTP/1.1 400 ")
    writer.close()


async def test_memory_of_an_upload_is_bounded(
    server: ServerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the store reads nothing, backpressure holds the sender back."""
    taken = asyncio.Event()

    async def write(user, path, body, **options):
        await taken.wait()
        async for _ in body:
            pass
        raise AssertionError("the sender has hung up")

    monkeypatch.setattr(server.engine.files, "write", write)
    _, writer = await open_upload(server, "data/x", f"Content-Length: {1 << 30}")
    for _ in range(64):
        writer.write(b"x" * (1 << 20))
        try:
            await asyncio.wait_for(writer.drain(), 1)
        except TimeoutError:
            break
    else:
        pytest.fail("64 MiB were taken in, although nobody reads them")
    writer.transport.abort()
    taken.set()


async def test_download_that_fails_midway_breaks_off(
    server: ServerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await server.upload("data/x", DATA)
    open_ = server.engine.files.open

    async def failing(user, path, **span):
        stored, _ = await open_(user, path, **span)

        async def body():
            yield DATA[:1000]
            raise RuntimeError("the disk is gone")

        return stored, body()

    monkeypatch.setattr(server.engine.files, "open", failing)
    with pytest.raises(Exception, match=r"incomplete|closed"):
        await server.get(CONTENT, params={"path": "data/x"})


async def test_client_disconnect_closes_the_object(
    server: ServerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await server.upload("data/x", DATA)
    closed = asyncio.Event()
    open_ = server.engine.files.open

    async def endless(user, path, **span):
        stored, _ = await open_(user, path, **span)

        async def body():
            try:
                while True:
                    yield DATA
            finally:
                closed.set()

        return stored.model_copy(update={"size": 1 << 40}), body()

    monkeypatch.setattr(server.engine.files, "open", endless)
    headers = {"Authorization": f"Bearer {server.kernel_token}"}
    async with server.http.stream(
        "GET", server.root + CONTENT, params={"path": "data/x"}, headers=headers
    ) as response:
        assert response.status_code == 200
    await asyncio.wait_for(closed.wait(), 10)
