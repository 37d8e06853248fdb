"""The former place of ``submit`` and ``Job``, which saved notebooks import. New code imports both from ``cts_jupyter``."""

from __future__ import annotations

import sys
from types import ModuleType

from cts_jupyter.notebook import functions
from cts_jupyter.notebook.functions import submit
from cts_jupyter.notebook.job import Job
from cts_jupyter.notebook.session import LATEST

__all__ = ["Job", "submit"]


class _CallableModule(ModuleType):
    """A module that can be called as the function :func:`cts_jupyter.job`.

    Importing a submodule binds its name in the package, where it hides the function of the same name.
    """

    def __call__(self, reference: str = LATEST) -> Job:
        return functions.job(reference)


sys.modules[__name__].__class__ = _CallableModule
