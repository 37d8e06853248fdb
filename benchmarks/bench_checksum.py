"""Benchmark of the checksum of a 2 GB file by the object store, compared with bare awscrt on the same reads.

Prints the ratio of throughputs, which should be at least 0.9. Both read the file from the page cache in
chunks of the same size; the best of three alternating rounds of each counts.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from awscrt.checksums import crc64nvme
from harness import report, run, size

from cts_core.objects.directory import DirectoryStore

SIZE = size(2_000_000_000, 20_000_000)
CHUNK_BYTES = 1 << 20
ROUNDS = size(3, 1)


def checksum_bare(path: Path) -> None:
    crc = 0
    buffer = bytearray(CHUNK_BYTES)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            crc = crc64nvme(view[:count], crc)


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "data").mkdir()
        big = root / "data" / "big"
        with big.open("wb") as file:
            for _ in range(SIZE // CHUNK_BYTES):
                file.write(bytes(range(256)) * (CHUNK_BYTES // 256))
        store = DirectoryStore(root)
        await store.open()
        await store.write_checksum("data/big")
        ours, baseline = [], []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            await store.verify("data/big")
            ours.append(time.perf_counter() - start)
            start = time.perf_counter()
            await asyncio.to_thread(checksum_bare, big)
            baseline.append(time.perf_counter() - start)
        await store.close()
    rate, bare = SIZE / 1e9 / min(ours), SIZE / 1e9 / min(baseline)
    report(
        f"checksum of {SIZE / 1e9:g} GB by the object store",
        f"{rate:.2f} GB/s, {rate / bare:.2f} of bare awscrt (at least 0.9)",
        rate_gb_s=rate,
        ratio=rate / bare,
    )


if __name__ == "__main__":
    run(lambda: asyncio.run(main()))
