"""CRC64/NVME, computed incrementally and formatted as S3 does."""

from __future__ import annotations

import base64
from typing import Union

from awscrt.checksums import combine_crc64nvme as _combine
from awscrt.checksums import crc64nvme as _crc64nvme

Buffer = Union[bytes, bytearray, memoryview]


class Crc64Nvme:
    """The checksum of all bytes passed to ``update`` so far."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: Buffer) -> None:
        """Add the next bytes."""
        self._value = _crc64nvme(data, self._value)

    def append(self, other: Crc64Nvme, size: int) -> None:
        """Add the next ``size`` bytes, whose checksum is ``other``."""
        self._value = _combine(self._value, other._value, size)

    def text(self) -> str:
        """Return the base64 of the eight bytes, big endian."""
        return base64.b64encode(self._value.to_bytes(8, "big")).decode()


def crc64nvme_text(data: Buffer) -> str:
    """Return the checksum of ``data`` as text."""
    crc = Crc64Nvme()
    crc.update(data)
    return crc.text()


EMPTY = crc64nvme_text(b"")
"""The checksum of no bytes. A file with bytes has it once in 2^64 times."""
