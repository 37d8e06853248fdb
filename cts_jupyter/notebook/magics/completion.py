"""Tab completion of ``%cts`` and ``%%cts``: in JupyterLab and Notebook by the kernel, and in IPython's terminal."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from IPython.core.completer import (
    CompletionContext,
    SimpleCompletion,
    SimpleMatcherResult,
)
from IPython.core.interactiveshell import InteractiveShell

from cts_jupyter import formatting
from cts_jupyter.client.faults import JOB_FIELDS
from cts_jupyter.examples.example import DATA, find_examples
from cts_jupyter.notebook.errors import MagicError
from cts_jupyter.notebook.magics import candidates
from cts_jupyter.notebook.magics.candidates import (
    MAX_CANDIDATES,
    Candidate,
    CandidateCache,
    Source,
)
from cts_jupyter.notebook.magics.command import Command, split_arguments
from cts_jupyter.notebook.magics.expansion import split_words
from cts_jupyter.notebook.session import LATEST

BUDGET_SECONDS = 0.15
"""The time for which a completion may wait for the service."""
_LINE = re.compile(r"\s*(?:[\w\s,]+=\s*)?%%?cts\s+(?P<before>(?:.*\s)?)(?P<word>\S*)", re.DOTALL)
_CELL = re.compile(r"\s*%%cts\s+(?P<command>\w+)")
_KEY = re.compile(r"\s*(?P<word>\w*)")
_VALUE = re.compile(r"\s*(?P<key>\w+):\s+(?P<word>\S*)")
_PLACEHOLDERS: Mapping[str, str] = {
    "<files>": "the container's files, a word each",
    "<files:comma>": "its files in one word, with commas",
    "<files:repeat>": "the flag before it again for each file",
    "<manifest>": "the path of a file that lists its files",
    "<n>": "its number",
}

SOURCES: Mapping[str, Source] = {
    "JOB": candidates.jobs,
    "IMAGE": candidates.images,
    "SITE": candidates.sites,
    "LABEL=V": candidates.labels,
    "ID": candidates.refdata,
    "PATH": candidates.paths,
    "PREFIX": candidates.paths,
    "DIR": candidates.paths,
    "GLOB": candidates.paths,
    "FILE": candidates.local_paths,
    "LOCAL": candidates.local_paths,
    "LOCALDIR": candidates.local_paths,
}
"""What is asked of a service for a value, by the name of the value in the help."""
_KEYS: Mapping[str, Source] = {
    "image": candidates.images,
    "cluster": candidates.sites,
    "output_dir": candidates.paths,
}
"""The same for keys of a cell."""


@dataclass(frozen=True)
class Question:
    """A word that is being written, and what it may become."""

    word: str
    known: Sequence[Candidate] = ()
    """What is known without a service."""
    sources: Sequence[Source] = ()


def ask_about_line(
    line: str, commands: Mapping[str, Command], variables: Iterable[str]
) -> Question | None:
    """Return what may stand at the end of a line; None for a line that is not of ``%cts``."""
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    word = match["word"]
    try:
        words = split_words(match["before"])
    except MagicError:
        # Inside a quote or an expression.
        return Question(word)
    if not words:
        return Question(word, [Candidate(name, c.summary) for name, c in commands.items()])
    own, arguments = split_arguments(words[1:])
    if word.startswith("$"):
        names = (f"${name}" for name in variables if not name.startswith("_"))
        return Question(word, [Candidate(name, "variable") for name in sorted(names)])
    if arguments is not None:
        return Question(word, [Candidate(*item) for item in _PLACEHOLDERS.items()])
    return _ask_about_word(word, own, commands.get(words[0]), commands)


def _ask_about_word(
    word: str, before: Sequence[str], command: Command | None, commands: Mapping[str, Command]
) -> Question:
    if command is None:
        return Question(word)
    parser = command.parser()
    option, equals, value = word.partition("=")
    if equals and option.startswith("--"):
        arguments = parser.next_arguments([*before, option])
        word = value
    else:
        arguments = parser.next_arguments(before)
    names = [name for argument in arguments for name in str(argument.metavar).split("|")]
    known = [candidate for name in names for candidate in _known(name, commands)]
    sources = [SOURCES[name] for name in names if name in SOURCES]
    if not equals and not any(argument.option_strings for argument in arguments):
        known += [
            Candidate(option, (action.help or "").replace("%%", "%"))
            for action in parser.options
            for option in action.option_strings
            if word.startswith("-") and option.startswith(word)
        ]
    return Question(word, known, list(dict.fromkeys(sources)))


def _known(name: str, commands: Mapping[str, Command]) -> Iterator[Candidate]:
    """Yield the candidates that need no service, for a value by its name in the help; ``{a,b}`` is one of both."""
    match name:
        case "JOB":
            yield Candidate(LATEST, "the last one of this notebook")
        case "STATE":
            yield from (Candidate(state, "state") for state in formatting.STATE_NAMES)
        case "CMD":
            yield from (Candidate(each, c.summary) for each, c in commands.items())
        case "EXAMPLE":
            yield from (Candidate(example.name, example.title) for example in find_examples())
            yield Candidate(DATA, "six small genomes")
        case _ if name.startswith("{"):
            yield from (Candidate(choice, "") for choice in name.strip("{}").split(","))
        case _ if name.islower():
            yield Candidate(name, "")


def ask_about_cell(line: str) -> Question:
    """Return what may stand at the end of a line in the YAML of a cell."""
    if value := _VALUE.fullmatch(line):
        source = _KEYS.get(value["key"])
        return Question(value["word"], sources=[source] if source else [])
    key = _KEY.fullmatch(line)
    if key is None:
        return Question("")
    return Question(key["word"], [Candidate(f"{field}: ", "key") for field in JOB_FIELDS])


class Completer:
    """Answers IPython's completer about lines of ``%cts``."""

    def __init__(self, shell: InteractiveShell, commands: Mapping[str, Command]) -> None:
        self._shell = shell
        self._commands = commands
        self._cache = CandidateCache()

    def complete(self, context: CompletionContext) -> SimpleMatcherResult:
        """Return what may stand at the cursor; nothing for a text that is not of ``%cts``."""
        question = self._question(context)
        if question is None:
            return SimpleMatcherResult(completions=[])
        found = [
            SimpleCompletion(candidate.text, type=candidate.about)
            for candidate in islice(self._candidates(question), MAX_CANDIDATES)
        ]
        return SimpleMatcherResult(
            completions=found, matched_fragment=question.word, suppress=True, ordered=True
        )

    def _question(self, context: CompletionContext) -> Question | None:
        line = context.text_until_cursor
        if context.cursor_line and (cell := _CELL.match(context.full_text)):
            command = self._commands.get(cell["command"])
            return ask_about_cell(line) if command is not None and command.takes_cell else None
        return ask_about_line(line, self._commands, self._shell.user_ns)

    def _candidates(self, question: Question) -> Iterator[Candidate]:
        deadline = time.monotonic() + BUDGET_SECONDS
        start = question.word.lstrip("'\"")
        offered = list(question.known)
        for source in question.sources:
            # One listing answers for every beginning, but not one of paths.
            text = start if source in (candidates.paths, candidates.local_paths) else ""
            offered += self._cache.find(source, text, deadline)
        return (each for each in offered if each.text.lstrip("'\"").startswith(start))
