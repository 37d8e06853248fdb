"""The errors of the REST API, from the exceptions."""

from __future__ import annotations

from collections.abc import Iterator

from cts_core.errors import CTSError, ErrorKind
from cts_reference.markdown import code, escape, table

_UNUSED = "An error of the deployed service that this one has no occasion for."


def describe() -> str:
    """Return every kind of error: appcode, apperror, HTTP status, meaning."""
    meanings = {
        kind: escape(cls.__doc__ or "") for cls in _classes() if (kind := vars(cls).get("kind"))
    }
    return table(
        ["appcode", "apperror", "HTTP", "meaning"],
        (
            [
                code(str(kind.appcode)) if kind.appcode is not None else "none",
                escape(kind.apperror or "none"),
                str(kind.status),
                meanings.get(kind, _UNUSED),
            ]
            for kind in ErrorKind
        ),
    )


def _classes(cls: type[CTSError] = CTSError) -> Iterator[type[CTSError]]:
    """Yield the classes of errors, in the order that lets the first of a kind count."""
    for subclass in reversed(cls.__subclasses__()):
        yield from _classes(subclass)
        yield subclass
