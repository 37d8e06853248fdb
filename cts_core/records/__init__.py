"""The store of jobs, containers, images, reference data and inactive sites: the port and its adapters."""
