"""Converts a container's arguments between the words after ``--`` on a line and the contract's parameters.

A literal stays itself; a placeholder stands for a value that differs by container:

``<files>``            the container's files, a word each; after ``--flag=`` the first is joined to the flag
``<files:comma>``      its files as one word, separated by commas
``-i <files:repeat>``  the flag again before each file
``<manifest>``         the path of a file that lists its files; ``<manifest:files:HEADER>`` with a first line
``<manifest:data_ids>``, ``<manifest:data_ids:HEADER>``  the same with data ids
``<n>``                its number, with prefix and suffix as in ``out_<n>.tsv``
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cts_core.model.parameters import (
    ArgumentText,
    FlagText,
    InputFilesFormat,
    ManifestFileFormat,
    ManifestHeader,
    ParameterType,
)
from cts_core.placeholders import FILES_FORMATS, NUMBER, Argument
from cts_jupyter import formatting

PLACEHOLDERS = (
    "<files>",
    "<files:comma>",
    "<files:repeat>",
    "<manifest>",
    "<manifest:data_ids>",
    "<manifest:data_ids:HEADER>",
    "<n>",
)
_MANIFEST = re.compile(r"<manifest(?::(files|data_ids)(?::(.+))?)?>", re.DOTALL)
_JOINED = re.compile(r"(--?[a-zA-Z0-9][\w.-]*=)(.+)", re.DOTALL)
_SPLITTABLE = re.compile(r"(--[a-zA-Z0-9][\w.-]*)=(.+)", re.DOTALL)
_NOT_ALLOWED = re.compile(r"[^\w./-]")
_SPECIAL = re.compile(r"[${}]")

_argument = TypeAdapter(ArgumentText)
_flag = TypeAdapter(FlagText)
_header = TypeAdapter(ManifestHeader)


class ArgumentsError(ValueError):
    """A word that is no valid argument of a container; the message says which words are."""


@dataclass
class ParsedArguments:
    """Arguments of the contract, and notes for the user about how words were understood."""

    args: list[Argument] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _is_valid(adapter: TypeAdapter[str], text: object) -> bool:
    try:
        adapter.validate_python(text)
    except ValidationError:
        return False
    return True


def _invalid_word(word: str) -> ArgumentsError:
    if not word:
        return ArgumentsError("An argument of a container cannot be empty")
    if "<" in word and ">" in word:
        return ArgumentsError(formatting.unknown("placeholder", word, PLACEHOLDERS))
    bad = list(dict.fromkeys(_NOT_ALLOWED.findall(word)))
    if not bad:
        return ArgumentsError(
            f"{word!r} cannot be an argument of a container: only flags such as -x or --name begin with '-'"
        )
    named = " and ".join("a space" if char == " " else repr(char) for char in bad)
    return ArgumentsError(
        f"{word!r} cannot be an argument of a container: it has {named} in it, and CTS allows letters, digits, '.', '_', "
        "'/' and '-'. Write a program that calls the tool with it, and run that: %cts images --register host/NAME FILE"
    )


def _number_parameter(word: str) -> dict[str, Any]:
    prefix, suffix = word.split(NUMBER, 1)
    parameter: dict[str, Any] = {"type": ParameterType.CONTAINER_NUMBER.value}
    for key, text in (("container_num_prefix", prefix), ("container_num_suffix", suffix)):
        if not text:
            continue
        if not _is_valid(_argument, text):
            raise ArgumentsError(
                f"{text!r} cannot stand beside <n> in {word!r}: CTS allows letters, digits, '.', '_', '/' "
                "and '-' there, and no '-' at the beginning"
            )
        parameter[key] = text
    return parameter


def parse_placeholder(word: str) -> dict[str, Any] | None:
    """Return the parameter that a word stands for, without a flag; None for a literal.

    Raises ArgumentsError for an invalid prefix, suffix or header of a placeholder.
    """
    if word in FILES_FORMATS:
        return {
            "type": ParameterType.INPUT_FILES.value,
            "input_files_format": FILES_FORMATS[word].value,
        }
    manifest = _MANIFEST.fullmatch(word)
    if manifest:
        form, header = manifest.groups()
        parameter = {
            "type": ParameterType.MANIFEST_FILE.value,
            "manifest_file_format": form or ManifestFileFormat.FILES.value,
        }
        if header is not None:
            if not _is_valid(_header, header):
                raise ArgumentsError(
                    f"The header in {word!r} must be 1 to 1000 characters in a single line"
                )
            parameter["manifest_file_header"] = header
        return parameter
    if NUMBER in word:
        return _number_parameter(word)
    return None


def parse_arguments(words: Iterable[str]) -> ParsedArguments:
    """Return the contract's arguments for the words of a line.

    A literal ``--x=4``, which the contract does not allow, becomes ``--x`` ``4``, and a note says so.
    Raises ArgumentsError, which names the word.
    """
    parsed = ParsedArguments()
    for word in words:
        joined = _JOINED.fullmatch(word)
        flag, rest = joined.groups() if joined else (None, word)
        parameter = parse_placeholder(rest)
        if parameter is None:
            _add_literal(parsed, word)
            continue
        if parameter.get("input_files_format") == InputFilesFormat.REPEAT_PARAMETER and not flag:
            flag = _pop_flag(parsed)
        if flag:
            parameter["flag"] = flag
        parsed.args.append(parameter)
    return parsed


def _pop_flag(parsed: ParsedArguments) -> str:
    flag = parsed.args[-1] if parsed.args else None
    if not isinstance(flag, str) or not _is_valid(_flag, flag):
        raise ArgumentsError("<files:repeat> needs the flag to repeat before it: -i <files:repeat>")
    parsed.args.pop()
    return flag


def _add_literal(parsed: ParsedArguments, word: str) -> None:
    if _is_valid(_argument, word) or _is_valid(_flag, word):
        parsed.args.append(word)
        return
    split = _SPLITTABLE.fullmatch(word)
    if split is None or not _is_valid(_argument, split[2]):
        raise _invalid_word(word)
    parsed.args += split.groups()
    parsed.notes.append(
        f"{word} runs as two words, {split[1]} {split[2]}: a CTS argument cannot hold '='"
    )


def parse_value(text: str) -> Argument:
    """Return the value of an environment variable: a literal or a parameter. Raises ArgumentsError."""
    parameter = parse_placeholder(text)
    if parameter is not None:
        return parameter
    if not _is_valid(_argument, text):
        raise _invalid_word(text)
    return text


def quote_word(word: str) -> str:
    """Return a word as it must stand on a line of ``%cts`` to be read as itself."""
    return shlex.quote(_SPECIAL.sub(lambda match: match[0] * 2, word))
