"""The words that stand for what differs by container, as ``%cts`` takes them: ``<files>``, ``<manifest>``, ``<n>``. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cts_core.model.parameters import InputFilesFormat, ManifestFileFormat, ParameterType

Argument = str | dict[str, Any]
"""A literal, or a parameter of the contract as its JSON object."""

FILES_FORMATS = {
    "<files>": InputFilesFormat.SPACE_SEPARATED_LIST,
    "<files:comma>": InputFilesFormat.COMMA_SEPARATED_LIST,
    "<files:repeat>": InputFilesFormat.REPEAT_PARAMETER,
}
NUMBER = "<n>"
_FILES_WORDS = {format_: word for word, format_ in FILES_FORMATS.items()}


def format_placeholder(parameter: Mapping[str, Any]) -> str:
    """Return the word that stands for a parameter, without its flag."""
    match ParameterType(parameter["type"]):
        case ParameterType.INPUT_FILES:
            return _FILES_WORDS[InputFilesFormat(parameter["input_files_format"])]
        case ParameterType.MANIFEST_FILE:
            form = ManifestFileFormat(parameter["manifest_file_format"]).value
            header = parameter.get("manifest_file_header")
            if header is not None:
                return f"<manifest:{form}:{header}>"
            return "<manifest>" if form == ManifestFileFormat.FILES else f"<manifest:{form}>"
        case ParameterType.CONTAINER_NUMBER:
            prefix = parameter.get("container_num_prefix") or ""
            return f"{prefix}{NUMBER}{parameter.get('container_num_suffix') or ''}"


def format_arguments(args: Sequence[Argument]) -> list[str]:
    """Return words that ``%cts`` parses to the same command line.

    A flag that is not joined by ``=`` becomes a word of its own, which makes no difference to containers.
    """
    words = []
    for arg in args:
        if isinstance(arg, str):
            words.append(arg)
            continue
        flag = arg.get("flag") or ""
        word = format_placeholder(arg)
        if flag.endswith("="):
            words.append(flag + word)
        else:
            words += [flag, word] if flag else [word]
    return words
