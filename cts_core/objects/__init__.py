"""The store of objects, which have a CRC64/NVME checksum each: the port and its adapters."""
