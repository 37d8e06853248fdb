"""Benchmark of 10,000 HEADs with checksums: the S3 adapter, compared with aiobotocore at concurrency 10 as the deployed service has it.

First against a server that responses from memory, in its own process, so that only the client is measured: CTS should be
five times as fast. Then against MinIO (built with Go, once), which is part of the measurement. The clients take turns, each in a
process of its own, and the best round of each counts. aiobotocore pins botocore, so it gets its own virtual environment.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness import report, run, size
from pydantic import SecretStr

from cts_core.config.sections import S3Settings
from cts_core.objects.s3.store import S3Store
from tests.services import aiobotocore
from tests.services.minio import start_minio
from tests.services.s3 import ACCESS_KEY, SECRET, S3Server
from tests.services.server import ServerProcess, free_port, is_listening

ROUNDS = size(3, 1)
BUCKET = "data"
PATHS = [f"{BUCKET}/in/sample {number:05}/reads.fq.gz" for number in range(size(10_000, 100))]
CRC = "AAAAAAAAAAA="
"""The checksum of no bytes."""
_HEAD = (
    f'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Type: text/plain\r\nETag: "{"ab" * 16}"\r\n'
    "Last-Modified: Tue, 03 Mar 2026 12:00:00 GMT\r\nAccept-Ranges: bytes\r\n"
    f"x-amz-checksum-crc64nvme: {CRC}\r\nx-amz-checksum-type: FULL_OBJECT\r\n"
    "x-amz-request-id: 0\r\nServer: memory\r\n\r\n"
).encode()
_BUCKETS = b"<ListAllMyBucketsResult><Buckets/></ListAllMyBucketsResult>"
_LISTING = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(_BUCKETS), _BUCKETS)


class MemoryServer(asyncio.Protocol):
    """Answers every request with a prepared response."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start with an empty buffer."""
        self._transport = transport
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        """Answer the complete requests in the buffer."""
        *requests, self._rest = (self._rest + data).split(b"\r\n\r\n")
        responses = (_HEAD if request.startswith(b"HEAD") else _LISTING for request in requests)
        self._transport.write(b"".join(responses))


async def serve(port: str) -> None:
    server = await asyncio.get_running_loop().create_server(MemoryServer, "127.0.0.1", int(port))
    await server.serve_forever()


async def head(url: str, key: str, secret: str, crc: str) -> None:
    """Print the seconds that the HEADs of the paths on standard input take."""
    login = {"access_key": key, "access_secret": SecretStr(secret)}
    store = S3Store(S3Settings(url=url, verify_external_url=False, **login))
    await store.open()
    paths = [line.rstrip("\n") for line in sys.stdin]
    start = time.perf_counter()
    objects = await store.head(paths)
    assert all(getattr(info, "crc64nvme", None) == crc for info in objects)
    print(time.perf_counter() - start)
    await store.close()


def _compare(what: str, peer: str, url: str, aim: str) -> None:
    login = [url, ACCESS_KEY, SECRET, CRC]
    commands = {
        "CTS": [sys.executable, __file__, "head", *login],
        "aiobotocore": [peer, str(Path(__file__).with_name("head_peer.py")), *login],
    }
    best = dict.fromkeys(commands, float("inf"))
    for _ in range(ROUNDS):
        for kind, command in commands.items():
            result = subprocess.run(
                command, input="\n".join(PATHS), stdout=subprocess.PIPE, text=True, check=True
            )
            best[kind] = min(best[kind], float(result.stdout))
    rate, ratio = len(PATHS) / best["CTS"], best["aiobotocore"] / best["CTS"]
    report(
        f"HEAD of {len(PATHS):,} objects, {what}",
        f"{rate:,.0f} a second, {ratio:.1f} times aiobotocore{aim}",
        heads_per_s=rate,
        ratio=ratio,
    )


def _fill(server: S3Server) -> None:
    client = server.client()

    def put(path: str) -> None:
        key = path.partition("/")[2]
        client.put_object(Bucket=BUCKET, Key=key, Body=b"", ChecksumAlgorithm="CRC64NVME")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, PATHS))


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="cts-bench-") as name:
        folder = Path(name)
        peer = str(aiobotocore.install())
        port = free_port()
        command = [sys.executable, __file__, "serve", str(port)]
        memory = ServerProcess(command, folder / "memory", lambda: is_listening(port))
        memory.start()
        try:
            _compare("from memory", peer, f"http://127.0.0.1:{port}", " (at least 5)")
        finally:
            memory.stop()
        minio = start_minio(folder / "minio")
        try:
            _fill(minio)
            _compare("MinIO", peer, minio.url, "")
        finally:
            minio.program.stop()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", port]:
            asyncio.run(serve(port))
        case ["head", *login]:
            asyncio.run(head(*login))
        case _:
            run(main)
