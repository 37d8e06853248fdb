"""The names that notebooks and scripts import from ``cts_jupyter``."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import pytest

import cts_jupyter

NAMES = [
    "AsyncClient",
    "CTSClient",
    "CTSClientError",
    "CTSConnectionError",
    "CTSRequestError",
    "CheckReport",
    "Job",
    "JobReferenceError",
    "MagicError",
    "NoConnectionError",
    "OutputFolderError",
    "Panel",
    "PanelError",
    "ResubmitError",
    "SerializeError",
    "Session",
    "Table",
    "Verdict",
    "VerifyError",
    "__version__",
    "check",
    "current_session",
    "job",
    "jobs",
    "panel",
    "submit",
]
DEFINED = [name for name in NAMES if name != "__version__"]


def _defined(name):
    """Return what stands behind a public name: a test that imported ``cts_jupyter.job`` has bound that module to it."""
    return getattr(importlib.import_module(cts_jupyter._MODULES[name]), name)


def _public_callables(name):
    """The function, or the class's own public methods and properties, with its constructor."""
    value = _defined(name)
    if not inspect.isclass(value):
        return [value]
    own = [
        member
        for cls in value.__mro__
        if cls.__module__.startswith("cts_jupyter")
        for key, member in vars(cls).items()
        if not key.startswith("_") or key == "__init__"
    ]
    functions = [getattr(m, "fget", None) or getattr(m, "func", m) for m in own]
    functions = [getattr(f, "__func__", f) for f in functions]
    return [f for f in functions if inspect.isfunction(f)]


def test_public_names_are_listed():
    assert cts_jupyter.__all__ == NAMES
    assert set(NAMES) <= set(dir(cts_jupyter))
    with pytest.raises(AttributeError, match="no attribute 'another'"):
        _ = cts_jupyter.another


@pytest.mark.parametrize("name", DEFINED)
def test_public_name_is_documented(name):
    value = _defined(name)
    assert value.__name__ == name
    assert value.__doc__
    undocumented = [
        f.__qualname__
        for f in _public_callables(name)
        if f.__name__ != "__init__" and not inspect.getdoc(f)
    ]
    assert undocumented == []


@pytest.mark.parametrize("name", DEFINED)
def test_public_name_is_typed(name):
    for function in _public_callables(name):
        signature = inspect.signature(function)
        assert signature.return_annotation is not inspect.Signature.empty, function
        untyped = [
            parameter.name
            for parameter in signature.parameters.values()
            if parameter.annotation is inspect.Parameter.empty
            and parameter.name not in ("self", "cls")
        ]
        assert untyped == [], function


def test_version():
    assert cts_jupyter.__version__.count(".") >= 2


@pytest.mark.slow
def test_former_module_of_submit_leaves_the_function_of_its_name():
    """Saved notebooks import ``cts_jupyter.job``, which is also a public function."""
    program = """
import cts_jupyter
from cts_jupyter.job import Job, submit
assert (Job, submit) == (cts_jupyter.Job, cts_jupyter.submit)
from cts_jupyter import job
try:
    job("01234567")
except cts_jupyter.NoConnectionError as e:
    print(e)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={"JUPYTER_RUNTIME_DIR": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.stdout.startswith("No CTS is running here"), ran.stderr
