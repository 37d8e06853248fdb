"""Where jobs, containers, images and site switches are kept: the record-store port and its adapters."""
