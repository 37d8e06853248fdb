"""Checksum of a 2 GB file by the object store, beside bare awscrt on the same reads.

Prints the ratio of throughputs, which should be at least 0.9. Both read the file from the page cache in
pieces of the same size; the best of three turns each, taken alternately, counts.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from awscrt.checksums import crc64nvme

from cts_core.objects.directory import DirectoryStore

SIZE = 2_000_000_000
PIECE = 1 << 20
TURNS = 3


def bare(path: Path) -> None:
    crc = 0
    buffer = bytearray(PIECE)
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
            for _ in range(SIZE // PIECE):
                file.write(bytes(range(256)) * (PIECE // 256))
        store = DirectoryStore(root)
        await store.open()
        await store.write_checksum("data/big")
        ours, theirs = [], []
        for _ in range(TURNS):
            start = time.perf_counter()
            await store.verify("data/big")
            ours.append(time.perf_counter() - start)
            start = time.perf_counter()
            await asyncio.to_thread(bare, big)
            theirs.append(time.perf_counter() - start)
        await store.close()
    gigabytes = SIZE / 1e9
    print(
        f"object store: {gigabytes / min(ours):.2f} GB/s, bare awscrt: {gigabytes / min(theirs):.2f} GB/s"
    )
    print(f"checksum ratio (ours / bare, aim >= 0.9): {min(theirs) / min(ours):.2f}")


if __name__ == "__main__":
    asyncio.run(main())
