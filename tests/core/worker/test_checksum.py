"""CRC64/NVME in S3's format."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cts_core.worker.checksum import Crc64Nvme, crc64nvme_text
from cts_core.worker.units import CHUNK_SIZE


def _bit_by_bit(data: bytes) -> str:
    """Compute the definition: polynomial 0xad93d23594c93659, reflected, initial value and final xor all ones."""
    crc = 0xFFFFFFFFFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x9A6C9329AC4BC9B5 if crc & 1 else 0)
    return base64.b64encode((crc ^ 0xFFFFFFFFFFFFFFFF).to_bytes(8, "big")).decode()


@pytest.mark.parametrize(
    ("data", "number"),
    [
        (b"", 0),
        # The check value of the CRC catalogue, and those of the NVMe specification.
        (b"123456789", 0xAE8B14860A799888),
        (bytes(4096), 0x6482D367EB22B64E),
        (b"\xff" * 4096, 0xC0DDBA7302ECA3AC),
        (bytes(n % 256 for n in range(4096)), 0x3E729F5F6750449C),
    ],
)
def test_published_values(data, number):
    assert crc64nvme_text(data) == base64.b64encode(number.to_bytes(8, "big")).decode()


@given(st.binary(max_size=300))
def test_the_definition(data):
    assert crc64nvme_text(data) == _bit_by_bit(data)


@given(st.lists(st.binary(max_size=50), max_size=8))
def test_chunks_combine(pieces):
    crc = Crc64Nvme()
    for piece in pieces:
        crc.update(piece)
    assert crc.text() == crc64nvme_text(b"".join(pieces))
    # Reading the text does not change it.
    assert crc.text() == crc64nvme_text(b"".join(pieces))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer(kind):
    data = b"x" * (CHUNK_SIZE + 1)
    assert crc64nvme_text(kind(data)) == crc64nvme_text(data)


def test_text_has_twelve_characters():
    assert crc64nvme_text(b"") == "AAAAAAAAAAA="
    assert len(crc64nvme_text(b"anything")) == 12
