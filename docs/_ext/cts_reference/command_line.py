"""The commands ``cts`` and ``jupyter cts``, from argparse and traitlets."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from cts_jupyter.cli.main import build_parser
from cts_jupyter.server.headless import HeadlessApp
from cts_reference.argparse_help import options, subcommands, usage
from cts_reference.markdown import blocks, directive, escape, fenced


def describe_cts() -> str:
    """Return ``cts`` with all of its commands."""
    parser = build_parser()
    return blocks(
        usage(parser),
        escape(parser.description or ""),
        escape(parser.epilog or ""),
        options(parser, parser.prog),
        *_commands(parser, level=2),
    )


def _commands(parser: argparse.ArgumentParser, level: int) -> Iterator[str]:
    for summary, command in subcommands(parser):
        title = f"{'#' * level} `{command.prog}`"
        text = escape(summary[:1].upper() + summary[1:]) + "."
        if list(subcommands(command)):
            yield blocks(title, text, *_commands(command, level + 1))
        else:
            yield blocks(title, text, usage(command), options(command, command.prog))


def describe_jupyter_cts() -> str:
    """Return ``jupyter cts`` with its options, and the settings of Jupyter's configuration that are CTS's own."""
    return blocks(
        escape(HeadlessApp.description),
        fenced(HeadlessApp.examples.strip(), "sh"),
        directive("program", "jupyter cts"),
        *(
            directive("option", f"--{name}=VALUE", f"{escape(_help(trait))}\n\nSets `c.{trait}`.")
            for name, trait in sorted(_aliases())
        ),
        *(
            directive("option", ", ".join(_dashes(name)), escape(text))
            for name, text in sorted(_flags())
        ),
    )


def _dashes(name: str) -> list[str]:
    return [f"-{part}" if len(part) == 1 else f"--{part}" for part in name.split(",")]


def _aliases() -> Iterator[tuple[str, str]]:
    aliases: Mapping[Any, Any] = HeadlessApp.aliases
    for name, target in aliases.items():
        yield str(name), str(target[0] if isinstance(target, tuple) else target)


def _flags() -> Iterator[tuple[str, str]]:
    flags: Mapping[Any, Any] = HeadlessApp.flags
    for name, (_, text) in flags.items():
        yield ",".join(name) if isinstance(name, tuple) else str(name), str(text)


def _help(trait: str) -> str:
    owner, _, name = trait.partition(".")
    classes_of_traits: list[type[Any]] = [HeadlessApp, *HeadlessApp.classes]
    classes: dict[str, Any] = {
        base.__name__: base for cls in classes_of_traits for base in cls.__mro__
    }
    return str(classes[owner].class_traits()[name].help)
