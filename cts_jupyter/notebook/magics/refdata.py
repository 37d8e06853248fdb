"""The command ``%cts refdata``."""

from __future__ import annotations

import argparse

from cts_core.errors import ErrorKind
from cts_jupyter.client.api.refdata import Refdata
from cts_jupyter.client.transport import CTSRequestError
from cts_jupyter.notebook.columns import refdata_table
from cts_jupyter.notebook.errors import MagicError
from cts_jupyter.notebook.magics.command import Command, CommandParser
from cts_jupyter.notebook.magics.context import Context
from cts_jupyter.notebook.table import Table
from cts_jupyter.notebook.typed_paths import object_path

_EXISTS = ErrorKind.REFDATA_EXISTS.appcode


def _configure(parser: CommandParser) -> None:
    add = parser.add_argument
    add("text", metavar="TEXT", nargs="?", help="only data with this in its file or id")
    add(
        "--register",
        metavar="PATH",
        type=object_path,
        help="register a stored file, and stage it; for admins",
    )
    add("--unpack", action="store_true", help="unpack the archive to register where it is staged")
    parser.add_result_name()


def _run(context: Context, options: argparse.Namespace) -> Table[Refdata]:
    if options.unpack and not options.register:
        raise MagicError("Say which archive, too: --register PATH --unpack")
    if options.register:
        return refdata_table(
            [_register(context, options.register, unpack=options.unpack)], empty=""
        )
    refdata = context.client.refdata()
    if options.text:
        text = options.text.casefold()
        refdata = [entry for entry in refdata if text in f"{entry.file}\n{entry.id}".casefold()]
    which = f" that has {options.text!r} in its file or id" if options.text else ""
    return refdata_table(refdata, empty=f"There is no reference data{which}")


def _register(context: Context, path: str, *, unpack: bool) -> Refdata:
    try:
        return context.client.register_refdata(path, unpack=unpack)
    except CTSRequestError as e:
        if e.appcode != _EXISTS:
            raise
        entries = context.client.refdata_of(path)
        # Cells are run repeatedly: registering the same file in the same way again succeeds.
        if not entries or entries[0].unpack != unpack:
            raise
    context.add_note(f"{path} is registered already.")
    return entries[0]


COMMANDS = (
    Command(
        "refdata", "list reference data, and how far it is at each site", _configure, _run,
        details="%cts images --register NAME --refdata ID gives it to an image, whose jobs then find it mounted.",
    ),
)  # fmt: skip
