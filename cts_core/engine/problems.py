"""What is wrong with a submission: the first problem, or all of them, each with its place and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus

from cts_core.errors import (
    CTSError,
    NoChecksumError,
    NoSuchImageError,
    PathInaccessibleError,
    SiteInactiveError,
    SiteUnavailableError,
    UnauthorizedError,
)
from cts_core.model.job import Problem

MAX_PROBLEMS = 1000
"""Problems that one answer lists."""
_ABOUT_THE_REQUEST = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND})
_NEAREST = 3


class Problems:
    """Lets the first problem of a submission be raised, or with ``collects`` keeps all."""

    def __init__(self, *, collects: bool = False, folders: Sequence[str] = ()) -> None:
        """``folders`` are those that the user may use, for hints; empty if there are no others."""
        self.collects = collects
        self.found: list[Problem] = []
        self._folders = folders

    @contextmanager
    def at(self, *place: str | int) -> Iterator[None]:
        """Keep what the block raises about the submission, as a problem at this place of it, where problems are kept."""
        try:
            yield
        except CTSError as e:
            if not self.collects or e.kind.status not in _ABOUT_THE_REQUEST:
                raise
            problem = Problem(
                loc=["body", *place],
                appcode=e.kind.appcode,
                message=e.message,
                hint=_hint(e, self._folders),
            )
            if len(self.found) < MAX_PROBLEMS and problem not in self.found[-_NEAREST:]:
                self.found.append(problem)

    def has(self, field: str) -> bool:
        """Return whether there is a problem with a field."""
        return any(problem.loc[1] == field for problem in self.found)


def _hint(error: CTSError, folders: Sequence[str]) -> str | None:
    match error:
        case NoChecksumError():
            return "Have the service compute it first"
        case NoSuchImageError():
            nearest = (error.help or {}).get("nearest", [])[:_NEAREST]
            return f"Registered are {', '.join(nearest)}" if nearest else None
        case PathInaccessibleError():
            return f"You may use {', '.join(folders)}" if folders else None
        case SiteInactiveError() | SiteUnavailableError() | UnauthorizedError():
            return "Choose another site"
    return None
