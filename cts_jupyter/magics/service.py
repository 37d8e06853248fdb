"""``%cts images``, ``sites`` and ``whoami``."""

from __future__ import annotations

import argparse
from pathlib import Path

from cts_core.errors import ErrorKind
from cts_jupyter.answers import Image, Site
from cts_jupyter.listing import image_reference, image_table, site_table
from cts_jupyter.logs import LogText
from cts_jupyter.magics.context import Context
from cts_jupyter.magics.errors import MagicError
from cts_jupyter.magics.parser import Command, CommandParser
from cts_jupyter.table import Table
from cts_jupyter.transport import CTSRequestError

_DIGEST_TAKEN = ErrorKind.IMAGE_DIGEST_EXISTS.appcode
_TAG_TAKEN = ErrorKind.IMAGE_TAG_EXISTS.appcode


def _configure_images(parser: CommandParser) -> None:
    add = parser.add_argument
    add("text", metavar="TEXT", nargs="?", help="only images with this in their names")
    change = parser.add_mutually_exclusive_group()
    change.add_argument(
        "--register", metavar="host/NAME", help="register a program of the server's machine"
    )
    change.add_argument(
        "--delete", metavar="NAME", help="unregister an image; jobs keep what they know"
    )
    program = parser.add_mutually_exclusive_group()
    program.add_argument("--executable", metavar="PATH", help="the program to register")
    program.add_argument("--module", metavar="MOD", help="the Python module to register")
    parser.add_result_name()


def _run_images(context: Context, options: argparse.Namespace) -> Table[Image]:
    if (options.executable or options.module) and not options.register:
        raise MagicError("Give the image's name, too: --register host/NAME")
    if options.register:
        image = _register(context, options.register, options.executable, options.module)
        return image_table([image], empty="")
    if options.delete:
        context.client.delete_image(options.delete)
        context.say(f"{options.delete} is not registered any more")
    images = context.client.images()
    if options.text:
        images = [i for i in images if options.text.lower() in image_reference(i).lower()]
    empty = "No image is registered" + (
        f" that has {options.text!r} in its name" if options.text else ""
    )
    return image_table(
        sorted(images, key=image_reference),
        empty=f"{empty}; %cts images --register host/NAME --executable PATH registers a program",
    )


def _register(context: Context, name: str, executable: str | None, module: str | None) -> Image:
    if executable is not None:
        program = {"executable": str(Path(executable).expanduser().absolute())}
    elif module is not None:
        program = {"module": module}
    else:
        raise MagicError("Say which program to register: --executable PATH or --module MOD")
    try:
        return context.client.register_image(name, **program)
    except CTSRequestError as e:
        if e.appcode not in (_DIGEST_TAKEN, _TAG_TAKEN):
            raise
        known = context.client.image(name)
    # A cell is run again and again: the same program under the same name is what was asked for.
    if known.entrypoint[-1] not in program.values():
        raise MagicError(
            f"{image_reference(known)} is registered as another program, {' '.join(known.entrypoint)}: "
            f"%cts images --delete {image_reference(known)} first, or choose another name"
        )
    context.client.delete_image(f"{known.name}@{known.digest}")
    image = context.client.register_image(name, **program)
    if image.digest != known.digest:
        context.say("The program has changed since it was registered; new jobs run the new one.")
    return image


def _configure_plain(parser: CommandParser) -> None:
    parser.add_result_name()


def _run_sites(context: Context, _: argparse.Namespace) -> Table[Site]:
    notes = [_say_where(context)] if context.session.url else []
    return site_table(context.client.sites(), notes=notes)


def _say_where(context: Context) -> str:
    try:
        return f"Sites of {context.session.where}, where you are {context.session.user}"
    except CTSRequestError:
        # Services show their sites to everybody.
        return f"Sites of {context.session.where}"


def _run_whoami(context: Context, _: argparse.Namespace) -> LogText:
    me = context.client.whoami()
    root = context.client.root()
    paths = ", ".join(path.path for path in me.allowed_paths) or "everywhere"
    roles = f" ({', '.join(me.roles)})" if me.roles else ""
    url = context.session.url or context.client.url
    how = ", forwarded by this Jupyter server" if context.session.connection.service else ""
    return LogText(
        f"You are {me.user}{roles} at {context.session.where}: {root.service_name} {root.version}, "
        f"{url}{how}\n"
        f"You may read and write: {paths}"
    )


COMMANDS = (
    Command("images", "list, register and unregister images", _configure_images, _run_images),
    Command("sites", "list the places where jobs run, and their limits", _configure_plain, _run_sites),
    Command("whoami", "say who and where you are, and which paths you may use", _configure_plain, _run_whoami),
)  # fmt: skip
