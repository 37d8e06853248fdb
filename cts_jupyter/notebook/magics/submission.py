"""Parses the submission of a line or a cell into the body of the request."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cts_jupyter import formatting
from cts_jupyter.notebook.errors import MagicError
from cts_jupyter.notebook.magics.command import CommandParser, duration, key_value, positive
from cts_jupyter.notebook.magics.inputs import InputFile, configure_sources
from cts_jupyter.notebook.placeholders import (
    ArgumentsError,
    ParsedArguments,
    parse_arguments,
    parse_value,
)
from cts_jupyter.times import parse_duration


@dataclass
class PartialSubmission:
    """The body of a submission, which may lack required fields, and notes for the user."""

    body: dict[str, Any]
    notes: list[str] = field(default_factory=list)


_FIELDS: Mapping[str, str] = {
    "image": "image",
    "output_dir": "output_dir",
    "memory": "memory",
    "runtime": "runtime",
    "cluster": "cluster",
    "num_containers": "containers",
    "cpus": "cpus",
    "input_roots": "input_root",
}
"""The option that sets each field of the body."""
_PARAMS: Mapping[str, str] = {
    "input_mount_point": "input_mount",
    "output_mount_point": "output_mount",
    "refdata_mount_point": "refdata_mount",
    "declobber": "declobber",
}
_TYPES: Mapping[str, TypeAdapter[Any]] = {
    "num_containers": TypeAdapter(int),
    "cpus": TypeAdapter(int),
    "declobber": TypeAdapter(bool),
}
"""The types of fields that are no text. A cell has text everywhere."""


def add_submission_options(parser: CommandParser) -> None:
    """Add every option that describes a job."""
    add = parser.add_argument
    add("image", metavar="IMAGE", nargs="?", help="a registered image; %%cts images lists them")
    configure_sources(parser)
    add("--output-dir", metavar="DIR", help="the folder for outputs, such as bucket/results/")
    add("--memory", metavar="M", help="per container, such as 40GB")
    add("--runtime", metavar="T", type=duration, help="per container, such as 1h30m")
    add("--cluster", metavar="SITE", help="the site; %%cts sites lists them")
    add(
        "-n",
        "--containers",
        metavar="N",
        type=positive,
        help="over how many containers to split the files",
    )
    add("-c", "--cpus", metavar="CPUS", type=positive, help="per container")
    add("--env", metavar="K=V", type=key_value, action="append", help="an environment variable")
    add(
        "--input-root", metavar="DIR", action="append",
        help="keep the folders of inputs below this path instead of their base names",
    )  # fmt: skip
    add(
        "--declobber",
        action="store_true",
        default=None,
        help="keep outputs of container n below n/",
    )
    add("--input-mount", metavar="P", help="where inputs are in the container (/input_files)")
    add("--output-mount", metavar="P", help="where outputs are left (/output_files)")
    add("--refdata-mount", metavar="P", help="where reference data is in the container")
    add(
        "--label",
        metavar="LABEL=V",
        type=key_value,
        action="append",
        help="a label to find the job by",
    )


def submission_from_options(
    options: argparse.Namespace, files: Sequence[InputFile], arguments: Sequence[str] | None
) -> PartialSubmission:
    """Return the submission of a line, with only the fields that it sets. Raises MagicError."""
    given = vars(options)
    body = {key: given[name] for key, name in _FIELDS.items() if given[name] is not None}
    params = {key: given[name] for key, name in _PARAMS.items() if given[name] is not None}
    parsed = ParsedArguments()
    try:
        if arguments is not None:
            parsed = parse_arguments(arguments)
            params["args"] = parsed.args
        if options.env:
            params["environment"] = {key: parse_value(value) for key, value in options.env}
    except ArgumentsError as e:
        raise MagicError(f"{e}") from None
    if "runtime" in body:
        body["runtime"] = formatting.format_iso_duration(body["runtime"])
    if options.label:
        body["labels"] = dict(options.label)
    if files:
        body["input_files"] = list(files)
    if params:
        body["params"] = params
    return PartialSubmission(body, parsed.notes)


def submission_from_yaml(tree: Mapping[str, Any]) -> PartialSubmission:
    """Return the submission of a cell, with placeholders and durations parsed as on a line. Raises MagicError."""
    body = _typed(tree)
    notes: list[str] = []
    if "runtime" in body:
        body["runtime"] = _yaml_runtime(body["runtime"])
    if isinstance(body.get("labels"), Mapping):
        body["labels"] = {key: _text(value, key) for key, value in body["labels"].items()}
    if body.get("params") is not None:
        body["params"] = _yaml_params(body["params"], notes)
    return PartialSubmission(body, notes)


def _typed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields with those that are no text in their types, as far as they have one: the service refuses others."""
    typed = dict(fields)
    for key in _TYPES.keys() & fields.keys():
        if isinstance(fields[key], str):
            with suppress(ValidationError):
                typed[key] = _TYPES[key].validate_python(fields[key])
    return typed


def _yaml_runtime(value: object) -> object:
    try:
        read = parse_duration(value) if isinstance(value, str) else value
    except ValueError as e:
        raise MagicError(f"runtime: {e}") from None
    return formatting.format_iso_duration(read) if isinstance(read, timedelta) else read


def _yaml_params(params: object, notes: list[str]) -> object:
    if not isinstance(params, Mapping):
        raise MagicError("params must hold keys of its own, such as args and environment")
    result = _typed(params)
    try:
        if isinstance(params.get("args"), list):
            result["args"] = _yaml_args(params["args"], notes)
        if isinstance(params.get("environment"), Mapping):
            result["environment"] = {
                key: value if isinstance(value, Mapping) else parse_value(_text(value, key))
                for key, value in params["environment"].items()
            }
    except ArgumentsError as e:
        raise MagicError(f"{e}") from None
    return result


def _yaml_args(args: Sequence[object], notes: list[str]) -> list[Any]:
    """Return the arguments of words and of the contract's own parameter objects, in their order."""
    result: list[Any] = []
    for is_object, run in itertools.groupby(args, lambda arg: isinstance(arg, Mapping)):
        if is_object:
            result += run
            continue
        parsed = parse_arguments(_text(word, "args") for word in run)
        result += parsed.args
        notes += parsed.notes
    return result


def _text(value: object, key: str) -> str:
    """Return what stands where text is meant: the scalar of a cell, or a variable's text or number. Raises MagicError."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        what = "null" if value is None else repr(value)
        raise MagicError(f"{key}: {what} is no text: put it in quotes to have it as text")
    return str(value)


def merge(base: PartialSubmission, over: PartialSubmission) -> PartialSubmission:
    """Merge a cell with its first line, which wins where both set a field."""
    params = {**(base.body.get("params") or {}), **over.body.get("params", {})}
    body = {**base.body, **over.body}
    if params or "params" in body:
        body["params"] = params
    return PartialSubmission(body, base.notes + over.notes)
