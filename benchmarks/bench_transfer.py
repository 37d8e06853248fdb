"""Benchmark of the worker's verified downloads and checksummed uploads, of 1 GiB and of 5,000 small files, against s3transfer.

First against a server that answers from memory and stores nothing, in its own process, so that only the client is measured:
CTS should be three times as fast with the large file. Then against MinIO (built with Go, once), which hashes and stores
the data, and with few cpus takes most of the time of an upload: the cpu seconds of both sides are printed. boto3 has its
defaults, which without TLS sign, and so hash, the body, and is set to CRC64/NVME. It does not verify a download in ranges: a
large file is verified afterwards, as its user would have to. The lower bound of a download is printed, too: the time that
the kernel takes to write as many bytes to new files. The clients alternate, each in its own process, and the best round of
each counts. The files are in the system's temporary folder (or ``TMPDIR``), on a file system as nodes have it, and are
removed before it writes them to its disk.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from harness import report, run, size

from cts_core.worker.checksum import Crc64Nvme
from cts_core.worker.s3.client import S3Objects
from cts_core.worker.s3.credentials import KeySigner, S3Keys
from tests.services.minio import start_minio
from tests.services.s3 import ACCESS_KEY, REGION, SECRET, S3Server
from tests.services.server import ServerProcess, free_port, is_listening

ROUNDS = size(3, 1)
ON_MINIO = size(full=True, tiny=False)
BUCKET = "data"
BLOCK = bytes(range(256)) * 4096
SIZES = {"large": (1, size(1 << 30, 1 << 24)), "small": (size(5000, 20), 10_240)}
"""The number of files, and the bytes of each."""
DIRECTIONS = ("up", "down")


def names(kind: str) -> list[str]:
    count, _ = SIZES[kind]
    return [f"{kind}-{number:04}" for number in range(count)]


def chunks(size: int):
    """Yield the content of every file of this size."""
    for start in range(0, size, len(BLOCK)):
        yield memoryview(BLOCK)[: size - start]


def _expected(kind: str) -> str:
    crc = Crc64Nvme()
    for chunk in chunks(SIZES[kind][1]):
        crc.update(chunk)
    return crc.text()


# -- the clients -----------------------------------------------------------------------------------


def transfer_by_cts(url: str, kind: str, direction: str, folder: Path) -> None:
    keys = S3Keys(url, REGION, ACCESS_KEY, SECRET)
    objects = S3Objects(keys.http_client(), KeySigner(keys))
    expected = _expected(kind)

    def store(name: str) -> None:
        assert objects.store(str(folder / name), f"{BUCKET}/{name}").crc64nvme == expected

    def fetch(name: str) -> None:
        objects.fetch(f"{BUCKET}/{name}", str(folder / "down" / name), expected)

    objects.parallel.map(store if direction == "up" else fetch, names(kind))


def transfer_by_s3transfer(url: str, kind: str, direction: str, folder: Path) -> None:
    import boto3  # noqa: PLC0415 - the other client does not need it
    from boto3.s3.transfer import TransferConfig, create_transfer_manager  # noqa: PLC0415

    login = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET}
    client = boto3.client("s3", endpoint_url=url, region_name=REGION, **login)
    with create_transfer_manager(client, TransferConfig()) as manager:
        if direction == "up":
            extra = {"ChecksumAlgorithm": "CRC64NVME"}
            futures = [
                manager.upload(str(folder / n), BUCKET, n, extra_args=extra) for n in names(kind)
            ]
        else:
            futures = [manager.download(BUCKET, n, str(folder / "down" / n)) for n in names(kind)]
        for future in futures:
            future.result()
    if direction == "down" and kind == "large":
        crc = Crc64Nvme()
        with (folder / "down" / names(kind)[0]).open("rb", buffering=0) as file:
            while chunk := file.read(len(BLOCK)):
                crc.update(chunk)
        assert crc.text() == _expected(kind)


def write_only(_url: str, kind: str, _direction: str, folder: Path) -> None:
    """Write as many bytes to new files: the least that a download does."""
    for name in names(kind):
        with (folder / "down" / name).open("xb", buffering=0) as file:
            for chunk in chunks(SIZES[kind][1]):
                file.write(chunk)


CLIENTS = {"up": {"CTS": transfer_by_cts, "s3transfer": transfer_by_s3transfer}}
CLIENTS["down"] = {**CLIENTS["up"], "only write": write_only}


def run_client(name: str, *arguments: str) -> None:
    """Run a client; print its seconds, its cpu seconds, and its most memory in MiB."""
    url, kind, direction, folder = arguments
    start = time.perf_counter()
    CLIENTS[direction][name](url, kind, direction, Path(folder))
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(
        time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss >> 10, flush=True
    )
    os._exit(0)  # does not wait for threads of the libraries


# -- the server from memory ------------------------------------------------------------------------


class MemoryServer:
    """Answers a connection as S3 does: it accepts every upload, and has every object."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connection
        self._room = memoryview(bytearray(1 << 20))
        self._rest = b""

    def serve(self) -> None:
        """Answer requests until the client disconnects."""
        while True:
            while b"\r\n\r\n" not in self._rest:
                data = self._socket.recv(1 << 16)
                if not data:
                    return
                self._rest += data
            head, _, self._rest = self._rest.partition(b"\r\n\r\n")
            self._respond(head.decode())

    def _respond(self, head: str) -> None:
        if re.search(r"(?i)^expect:", head, re.MULTILINE):
            self._socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        length = re.search(r"(?im)^content-length: *(\d+)", head)
        self._discard(int(length[1]) if length else 0)
        method, target = head.split(" ", 2)[:2]
        if method == "POST" and "uploads" in target:
            self._send("200 OK", b"<R><UploadId>1</UploadId></R>")
        elif method == "POST":
            self._send("200 OK", b"<CompleteMultipartUploadResult/>")
        elif method == "PUT":
            self._send("200 OK")
        else:
            self._send_object(method, target, re.search(r"(?im)^range: *bytes=(\d+)-(\d*)", head))

    def _discard(self, size: int) -> None:
        size -= len(self._rest[:size])
        self._rest = b""
        while size > 0:
            size -= self._socket.recv_into(self._room[: min(size, len(self._room))])

    def _send(self, status: str, body: bytes = b"", headers: str = "") -> None:
        head = f'HTTP/1.1 {status}\r\nETag: "1"\r\nContent-Length: {len(body)}\r\n{headers}\r\n'
        self._socket.sendall(head.encode() + body)

    def _send_object(self, method: str, target: str, requested: re.Match[str] | None) -> None:
        size = SIZES[target.rpartition("/")[2].partition("-")[0]][1]
        start = int(requested[1]) if requested else 0
        end = min(size, int(requested[2]) + 1) if requested and requested[2] else size
        status = f"206 Partial Content\r\nContent-Range: bytes {start}-{end - 1}/{size}"
        head = (
            f"HTTP/1.1 {status if requested else '200 OK'}\r\nContent-Length: {end - start}\r\n"
            'ETag: "1"\r\nLast-Modified: Tue, 03 Mar 2026 12:00:00 GMT\r\n\r\n'
        ).encode()
        if method == "HEAD":
            self._socket.sendall(head)
            return
        if end - start < len(BLOCK):
            self._socket.sendall(head + BLOCK[: end - start])
            return
        self._socket.sendall(head)
        for chunk in chunks(end - start):
            self._socket.sendall(chunk)


def serve(port: str) -> None:
    def one(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            MemoryServer(connection).serve()

    with socket.create_server(("127.0.0.1", int(port)), backlog=256) as listener:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=one, args=(connection,), daemon=True).start()


# -- the comparison --------------------------------------------------------------------------------


def _cpu_seconds(server: ServerProcess) -> float:
    text = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(text[11]) + int(text[12])) / os.sysconf("SC_CLK_TCK")


def _run_round(server: ServerProcess, folder: Path, *arguments: str) -> list[float]:
    """Run a client; return its seconds, its cpu seconds, its MiB, and the server's cpu seconds."""
    (folder / "down").mkdir()
    command = [sys.executable, __file__, *arguments, str(folder)]
    before = _cpu_seconds(server)
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    used = _cpu_seconds(server) - before
    shutil.rmtree(folder / "down")
    return [*map(float, result.stdout.split()), used]


def compare(what: str, server: ServerProcess, url: str, folder: Path) -> None:
    for kind, (count, bytes_each) in SIZES.items():
        for direction in DIRECTIONS:
            best = {}
            for _ in range(ROUNDS):
                for name in CLIENTS[direction]:
                    measured = _run_round(server, folder, name, url, kind, direction)
                    best[name] = min(measured, best.get(name, measured))
            ratio = best["s3transfer"][0] / best["CTS"][0]
            report(
                f"{what}, {count:,} x {bytes_each:,} bytes {direction}",
                f"{ratio:.1f} times as fast as s3transfer",
                rate_mb_s=count * bytes_each / best["CTS"][0] / 1e6,
                ratio=ratio,
            )
            for name, (seconds, cpu, mib, served) in best.items():
                rate = count * bytes_each / seconds / 1e6
                print(
                    f"  {name:10} {seconds:6.2f} s, {rate:5.0f} MB/s, cpu {cpu:.2f} s and "
                    f"{served:.2f} s of the server, {mib:.0f} MiB",
                    flush=True,
                )


def _fill(folder: Path) -> None:
    for kind, (_, bytes_each) in SIZES.items():
        for name in names(kind):
            with (folder / name).open("wb") as file:
                for chunk in chunks(bytes_each):
                    file.write(chunk)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="cts-bench-") as name:
        folder = Path(name)
        _fill(folder)
        port = free_port()
        command = [sys.executable, __file__, "serve", str(port)]
        server = ServerProcess(command, folder / "memory", lambda: is_listening(port))
        server.start()
        try:
            compare("from memory", server, f"http://127.0.0.1:{port}", folder)
        finally:
            server.stop()
        if ON_MINIO:
            minio: S3Server = start_minio(folder / "minio")
            try:
                compare("MinIO", minio.program, minio.url, folder)
            finally:
                minio.program.stop()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", port]:
            serve(port)
        case [name, *arguments]:
            run_client(name, *arguments)
        case _:
            run(main)
