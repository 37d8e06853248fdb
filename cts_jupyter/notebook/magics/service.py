"""The commands ``%cts images``, ``sites`` and ``whoami``."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from cts_core.errors import ErrorKind
from cts_jupyter.client.api.base import drop_none
from cts_jupyter.client.logs import PlainText
from cts_jupyter.client.models import Image, Site
from cts_jupyter.client.transport import CTSRequestError
from cts_jupyter.notebook.columns import image_reference, image_table, site_table
from cts_jupyter.notebook.errors import MagicError
from cts_jupyter.notebook.magics.command import Command, CommandParser
from cts_jupyter.notebook.magics.context import Context
from cts_jupyter.notebook.magics.local_files import local_path, no_local_file
from cts_jupyter.notebook.table import Table

_HOST = "host/"
_DIGEST_TAKEN = ErrorKind.IMAGE_DIGEST_EXISTS.appcode
_TAG_TAKEN = ErrorKind.IMAGE_TAG_EXISTS.appcode


def _configure_images(parser: CommandParser) -> None:
    add = parser.add_argument
    add(
        "text",
        metavar="TEXT|FILE",
        nargs="?",
        help="only images with this in their names; with --register host/NAME, the program to register: a file of Python "
        "as it is, or any other that can be executed",
    )
    change = parser.add_mutually_exclusive_group()
    change.add_argument(
        "--register",
        metavar="NAME",
        help="register an image of a registry, or a program of the server's machine as host/NAME",
    )
    change.add_argument(
        "--delete", metavar="IMAGE", help="unregister an image; jobs keep what they know"
    )
    program = parser.add_mutually_exclusive_group()
    program.add_argument("--executable", metavar="FILE", help="the program to register")
    program.add_argument(
        "--module",
        metavar="MOD",
        help="the Python module to register, such as package.tool; a file is given without --module",
    )
    add("--refdata", metavar="ID", help="reference data that belongs to the image to register")
    add("--refdata-mount", metavar="P", help="where containers find it if jobs say nothing else")
    add(
        "--variables",
        metavar="A,B",
        help="variables that jobs may set of a program that several users run",
    )
    parser.add_result_name()


def _run_images(context: Context, options: argparse.Namespace) -> Table[Image]:
    about = (
        *(options.executable, options.module, options.refdata, options.refdata_mount),
        options.variables,
    )
    if any(about) and not options.register:
        raise MagicError("Give the image's name, too: --register NAME")
    if options.register:
        return image_table([_register(context, options)], empty="")
    if options.delete:
        context.client.delete_image(options.delete)
        context.add_note(f"{options.delete} is not registered any more")
    images = context.client.images()
    if options.text:
        images = [i for i in images if options.text.lower() in image_reference(i).lower()]
    empty = "No image is registered" + (
        f" that has {options.text!r} in its name" if options.text else ""
    )
    return image_table(
        sorted(images, key=image_reference),
        empty=f"{empty}; %cts images --register NAME registers one of a registry, or a program as host/NAME",
    )


def _register(context: Context, options: argparse.Namespace) -> Image:
    name, program = options.register, _program(options)
    if name.startswith(_HOST) and not program:
        raise MagicError(
            f"Say which program to register: %cts images --register {name} FILE, or --module MOD"
        )
    if "interpreter" in program:
        context.add_note(
            f"{name} runs {program['executable']} by this kernel's Python, {program['interpreter']}"
        )
    more = drop_none(
        refdata_id=options.refdata,
        default_refdata_mount_point=options.refdata_mount,
        variables=options.variables and [name.strip() for name in options.variables.split(",")],
    )
    try:
        return context.client.register_image(name, **program, **more)
    except CTSRequestError as e:
        if e.appcode not in (_DIGEST_TAKEN, _TAG_TAKEN):
            raise
        registered = context.client.image(name)
    reference = image_reference(registered)
    if not name.startswith(_HOST):
        # The registry may have another image under this name by now; only a new registration would show that.
        raise MagicError(
            f"{reference} is registered already, as {registered.digest}: %cts images --delete {reference} first, to register "
            "what the registry has now"
        )
    # Cells are run repeatedly: registering the same program under the same name again succeeds.
    if registered.entrypoint[-1] not in program.values():
        raise MagicError(
            f"{reference} is registered as another program, {' '.join(registered.entrypoint)}: "
            f"%cts images --delete {reference} first, or choose another name"
        )
    context.client.delete_image(f"{registered.name}@{registered.digest}")
    image = context.client.register_image(name, **program, **more)
    if image.digest != registered.digest:
        context.add_note(
            "The program has changed since it was registered; new jobs run the new one."
        )
    return image


def _program(options: argparse.Namespace) -> dict[str, str]:
    given = [
        value for value in (options.text, options.executable, options.module) if value is not None
    ]
    if len(given) > 1:
        raise MagicError(f"Say one program to register, not {' and '.join(given)}")
    word = options.text or options.executable
    if word is None:
        _check_module(options.register, options.module)
        return drop_none(module=options.module)
    path = local_path(word).absolute()
    if not path.is_file():
        raise no_local_file(word)
    program = {"executable": str(path)}
    if path.suffix == ".py" and not _runs_by_itself(path):
        program["interpreter"] = sys.executable
    return program


def _check_module(image: str, module: str | None) -> None:
    """Raise MagicError for a file in the place of a module."""
    if module is not None and ("/" in module or module.endswith(".py")):
        raise MagicError(
            f"--module takes the name of an installed module, such as package.tool, and {module} is the name of a file, which is "
            f"registered as it is: %cts images --register {image} {shlex.quote(module)}"
        )


def _runs_by_itself(path: Path) -> bool:
    with path.open("rb") as file:
        return os.access(path, os.X_OK) and file.read(2) == b"#!"


def _configure_plain(parser: CommandParser) -> None:
    parser.add_result_name()


def _run_sites(context: Context, _: argparse.Namespace) -> Table[Site]:
    notes = [_location_note(context)] if context.session.url else []
    return site_table(context.client.sites(), notes=notes)


def _location_note(context: Context) -> str:
    try:
        return f"Sites of {context.session.where}, where you are {context.session.user}"
    except CTSRequestError:
        # Services list their sites without a token.
        return f"Sites of {context.session.where}"


def _run_whoami(context: Context, _: argparse.Namespace) -> PlainText:
    me = context.client.whoami()
    root = context.client.root()
    paths = ", ".join(path.path for path in me.allowed_paths) or "everywhere"
    roles = f" ({', '.join(me.roles)})" if me.roles else ""
    url = context.session.url or context.client.url
    how = ", forwarded by this Jupyter server" if context.session.connection.service else ""
    return PlainText(
        f"You are {me.user}{roles} at {context.session.where}: {root.service_name} {root.version}, "
        f"{url}{how}\n"
        f"You may read and write: {paths}"
    )


COMMANDS = (
    Command("images", "list, register and unregister images", _configure_images, _run_images),
    Command("sites", "list the places where jobs run, and their limits", _configure_plain, _run_sites),
    Command("whoami", "say who and where you are, and which paths you may use", _configure_plain, _run_whoami),
)  # fmt: skip
