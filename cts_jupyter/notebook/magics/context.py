"""What a subcommand works with, and what several of them do alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from cts_jupyter.client import CTSClient
from cts_jupyter.notebook.job import Job
from cts_jupyter.notebook.magics.errors import MagicError
from cts_jupyter.notebook.magics.expansion import Namespace
from cts_jupyter.notebook.session import JobReferenceError, Session, current_session


@dataclass
class Context:
    """One call of the magic. The service is only looked for when a command asks for it."""

    namespace: Namespace
    arguments: Sequence[str] | None = None
    """The words after ``--``; None without a ``--``."""
    cell: str | None = None
    notes: list[str] = field(default_factory=list)
    """What the person should know; printed before the result."""

    @cached_property
    def session(self) -> Session:
        """The service of this kernel."""
        return current_session()

    @property
    def client(self) -> CTSClient:
        """The service's client."""
        return self.session.client

    def job(self, reference: str) -> Job:
        """The job that a word names. Raises MagicError."""
        try:
            return Job.find(self.session, reference)
        except JobReferenceError as e:
            raise MagicError(str(e)) from None

    def jobs(self, references: Iterable[str]) -> list[Job]:
        """The jobs that words name."""
        return [self.job(reference) for reference in references]

    def add_note(self, text: str) -> None:
        """Note something for the person."""
        self.notes.append(text)


def is_path(word: str) -> bool:
    """Whether a word names files; a job's id has no slash."""
    return "/" in word
