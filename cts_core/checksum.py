"""CRC64/NVME for the engine and its clients; the worker's own module does the work."""

from cts_core.worker.checksum import PIECE, Crc64Nvme, crc64nvme_text

__all__ = ["PIECE", "Crc64Nvme", "crc64nvme_text"]
