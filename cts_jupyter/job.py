"""The old place of ``submit`` and ``Job``, which saved notebooks import. New code imports both from ``cts_jupyter``."""

from cts_jupyter.notebook.job import Job, submit

__all__ = ["Job", "submit"]
