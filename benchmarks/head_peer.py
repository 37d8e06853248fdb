"""The baseline of ``bench_head.py``: HEADs by aiobotocore, ten at a time. Runs in an environment that has it."""

from __future__ import annotations

import asyncio
import sys
import time

from aiobotocore.session import get_session

CONCURRENCY = 10


async def main(url: str, key: str, secret: str, crc: str) -> None:
    """Print the seconds that the HEADs of the paths on standard input take; each must have this checksum."""
    paths = iter([line.rstrip("\n").partition("/")[::2] for line in sys.stdin])
    login = {"aws_access_key_id": key, "aws_secret_access_key": secret}
    session = get_session()
    async with session.create_client(
        "s3", region_name="us-east-1", endpoint_url=url, **login
    ) as client:

        async def head_all() -> None:
            for bucket, name in paths:
                response = await client.head_object(Bucket=bucket, Key=name, ChecksumMode="ENABLED")
                assert response["ChecksumCRC64NVME"] == crc

        start = time.perf_counter()
        await asyncio.gather(*(head_all() for _ in range(CONCURRENCY)))
        print(time.perf_counter() - start)


asyncio.run(main(*sys.argv[1:]))
