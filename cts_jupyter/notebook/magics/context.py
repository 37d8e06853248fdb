"""The context that a subcommand runs in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from cts_jupyter import formatting
from cts_jupyter.client import CTSClient
from cts_jupyter.client.models import StoredObject
from cts_jupyter.client.transport import CTSClientError
from cts_jupyter.notebook.errors import MagicError
from cts_jupyter.notebook.job import Job
from cts_jupyter.notebook.magics.expansion import Namespace
from cts_jupyter.notebook.magics.hints import OPTIONS, format_error
from cts_jupyter.notebook.session import LATEST, JobReferenceError, Session, current_session

_Result = TypeVar("_Result")


@dataclass
class Context:
    """One call of the magic. The service is only searched for when a command uses it."""

    namespace: Namespace
    arguments: Sequence[str] | None = None
    """The words after ``--``; None without a ``--``."""
    cell: str | None = None
    variables: MutableMapping[str, object] = field(default_factory=dict)
    """The notebook's variables."""
    result_name: str | None = None
    """The variable of ``-o``."""
    notes: list[str] = field(default_factory=list)
    """Notes for the user that are not printed yet."""

    @cached_property
    def session(self) -> Session:
        """The session with the service of this kernel."""
        return current_session()

    @property
    def client(self) -> CTSClient:
        """The service's client."""
        return self.session.client

    def job(self, reference: str) -> Job:
        """Return the job that a word refers to. Raises MagicError."""
        try:
            job = Job.find(self.session, reference)
        except JobReferenceError as e:
            raise MagicError(self.variable_hint(reference) or str(e)) from None
        if reference == LATEST:
            self.add_note(f"{LATEST} is job {formatting.short_id(job.id)}")
        return job

    def variable_hint(self, word: str) -> str | None:
        """Return the advice for a word that is the name of a variable."""
        if not self.namespace.has_variable(word):
            return None
        return f"{word} is a variable of this notebook: write ${word} for its value"

    def jobs(self, references: Iterable[str]) -> list[Job]:
        """Return the jobs that words refer to."""
        return [self.job(reference) for reference in references]

    def files_below(self, prefix: str) -> Iterator[StoredObject]:
        """Iterate over all objects whose paths start with a prefix, and note what lies there and is none."""
        left_out: dict[str, None] = {}
        for page in self.client.file_pages(prefix):
            yield from page.objects
            left_out |= dict.fromkeys(page.left_out)
        if left_out:
            self.add_note(
                f"Left out, as a link or a special file is no object: {formatting.name_some(list(left_out))}"
            )

    def describe(self, error: CTSClientError) -> str:
        """Return an error of the service as one line that ends with advice for this person, here and now."""
        names = OPTIONS if self.cell is None else {}
        return format_error(error, self.client, names)

    def bind(self, result: _Result) -> _Result:
        """Bind the variable of ``-o`` to a result, and return that. A command that may fail later binds what there is."""
        if self.result_name is not None:
            self.variables[self.result_name] = result
        return result

    def add_note(self, text: str) -> None:
        """Add a note for the user, which is printed before the result."""
        self.notes.append(text)

    def print_notes(self) -> None:
        """Print the notes so far: before a wait, and at the end."""
        for note in self.notes:
            print(formatting.printable(note))  # noqa: T201 - notes belong to the cell's output
        self.notes.clear()


def is_path(word: str) -> bool:
    """Return whether a word is a path; a job's id has no slash."""
    return "/" in word
