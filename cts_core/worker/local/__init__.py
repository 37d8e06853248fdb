"""The worker beside its server: the fork server and the worker's entry point."""
