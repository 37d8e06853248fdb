"""The commands of ``%cts``: runs that of a line, and makes every failure a MagicError."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import nullcontext

from cts_jupyter.client.resubmit import ResubmitError
from cts_jupyter.client.transport import CTSClientError
from cts_jupyter.discovery import NoConnectionError
from cts_jupyter.notebook.errors import MagicError
from cts_jupyter.notebook.last_submission import submitting
from cts_jupyter.notebook.magics import (
    checksums,
    examples,
    files,
    jobs,
    panel,
    refdata,
    service,
    submit,
)
from cts_jupyter.notebook.magics.command import Command, split_arguments, unknown_command
from cts_jupyter.notebook.magics.context import Context
from cts_jupyter.notebook.magics.expansion import Namespace, expand_words, split_words
from cts_jupyter.notebook.magics.help import help_command
from cts_jupyter.notebook.output_folder import OutputFolderError

_COMMANDS = (
    *submit.COMMANDS,
    *panel.COMMANDS,
    *jobs.COMMANDS,
    *files.COMMANDS,
    *checksums.COMMANDS,
    *service.COMMANDS,
    *refdata.COMMANDS,
    *examples.COMMANDS,
)
COMMANDS: Mapping[str, Command] = {
    command.name: command for command in (*_COMMANDS, help_command(_COMMANDS))
}
_HELP_OPTIONS = frozenset({"-h", "--help"})
_HARMLESS_OPTIONS = _HELP_OPTIONS | {"--check"}


def run_line(
    line: str, cell: str | None, namespace: Namespace, variables: MutableMapping[str, object]
) -> object:
    """Run a line with the text of its cell. Return the result, which ``-o`` binds in ``variables``.

    Raises MagicError for every failure.
    """
    name, *rest = line.split(maxsplit=1) or ["help"]
    if name in _HELP_OPTIONS:
        name = "help"
    command = COMMANDS.get(name)
    if command is None:
        raise MagicError(unknown_command(name, COMMANDS))
    submits = command.submits and _HARMLESS_OPTIONS.isdisjoint(line.partition(" -- ")[0].split())
    with submitting() if submits else nullcontext():
        return _run_command(command, split_words("".join(rest)), cell, namespace, variables)


def _run_command(
    command: Command,
    words: Sequence[str],
    cell: str | None,
    namespace: Namespace,
    variables: MutableMapping[str, object],
) -> object:
    own, arguments = split_arguments(words)
    if _HELP_OPTIONS.intersection(own):
        command, own, arguments, cell = COMMANDS["help"], [command.name], None, None
    if cell is not None and not command.takes_cell:
        raise MagicError(
            f"%%cts {command.name} takes no cell; write %cts {command.name} on a line of its own"
        )
    if arguments is not None and not command.takes_arguments:
        raise MagicError(
            f"%cts {command.name} has no use for words after '--'; see %cts help {command.name}"
        )
    after = None if arguments is None else expand_words(arguments, namespace)
    options = command.parser().parse(expand_words(own, namespace), after)
    context = Context(
        namespace=namespace,
        arguments=after,
        cell=cell,
        variables=variables,
        result_name=getattr(options, "out", None),
    )
    try:
        return context.bind(command.run(context, options))
    except (NoConnectionError, OutputFolderError, ResubmitError, OSError) as e:
        raise MagicError(str(e)) from None
    except UnicodeEncodeError as e:
        # Python represents file names in other encodings so.
        raise MagicError(f"{e.object!a} is not valid unicode text: rename it") from None
    except CTSClientError as e:
        raise MagicError(context.describe(e)) from None
    finally:
        context.print_notes()
