"""The public Python names, from ``cts_jupyter.__all__``; autodoc writes what each is."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from typing import is_typeddict

import cts_jupyter
from cts_jupyter import client
from cts_jupyter.client import models
from cts_reference.markdown import blocks, fenced

MADE_BY_USERS = ("cts_jupyter.AsyncClient", "cts_jupyter.CTSClient")
"""The classes whose constructors users call."""
WIDGETS = ("cts_jupyter.Panel",)
"""Classes whose inherited members ipywidgets and traitlets document."""
INTERNAL_MEMBERS = (
    "as_word",
    "followed",
    "is_of",
    "model_config",
    "of",
    "on_change",
    "on_lost",
    "show_end",
)
"""Members that other parts of CTS call, and users do not."""


def describe() -> str:
    """Return functions, classes and errors, then what else stands in their signatures."""
    names = [name for name in cts_jupyter.__all__ if not name.startswith("_")]
    functions = [name for name in names if inspect.isfunction(getattr(cts_jupyter, name))]
    errors = [name for name in names if _is_error(getattr(cts_jupyter, name))]
    classes = [name for name in names if name not in (*functions, *errors)]
    return blocks(
        "## Functions",
        *(_autodoc("function", f"cts_jupyter.{name}") for name in functions),
        "## Classes",
        *(_class(f"cts_jupyter.{name}") for name in classes),
        "## Errors",
        *(
            _autodoc("exception", f"cts_jupyter.{name}", {"show-inheritance": ""})
            for name in errors
        ),
        "## What the client returns and takes",
        *(_class(f"{cls.__module__}.{cls.__name__}") for cls in find_client_types()),
    )


def find_client_types() -> Iterator[type]:
    """Yield the public classes in signatures of the client's methods: answers, filters, streams, endpoints for admins."""
    for module in _modules(client):
        for cls in vars(importlib.import_module(module)).values():
            is_own = inspect.isclass(cls) and cls.__module__ == module and cls.__name__[0] != "_"
            if is_own and (
                is_typeddict(cls)
                or issubclass(cls, models.Response)
                or cls.__name__ in ("AdminEndpoints", "AsyncStream", "EventStream", "PlainText")
            ):
                yield cls


def _modules(package: object) -> Iterator[str]:
    paths: list[str] = package.__path__  # type: ignore[attr-defined]  # packages have it
    prefix = f"{package.__name__}."  # type: ignore[attr-defined]  # as above
    return (module.name for module in pkgutil.walk_packages(paths, prefix))


def _is_error(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, BaseException)


def _class(name: str) -> str:
    members = {"members": "", "undoc-members": ""}
    if name not in WIDGETS:
        members["inherited-members"] = "BaseModel, dict, Sequence, str"
    # Members that both clients have are shown once.
    left_out = set(dir(client.CTSClient)) if name == "cts_jupyter.AsyncClient" else set()
    excluded = ", ".join(sorted(left_out.union(INTERNAL_MEMBERS)))
    return _autodoc("class", name, {**members, "exclude-members": excluded})


def _autodoc(kind: str, name: str, options: Mapping[str, str] | None = None) -> str:
    lines = [f"   :{option}: {value}".rstrip() for option, value in (options or {}).items()]
    return fenced("\n".join([f".. auto{kind}:: {name}", *lines]), "{eval-rst}")


def hide_constructor(
    _app: object,
    what: str,
    name: str,
    _value: object,
    _options: object,
    signature: str | None,
    _returns: str,
) -> tuple[str, str] | None:
    """Leave out the signature of a class that is not made by users, when autodoc asks."""
    return (
        ("", "")
        if signature and what in ("class", "exception") and name not in MADE_BY_USERS
        else None
    )
