"""Serializes a submission as a line, as YAML or as Python that submits the same."""

from __future__ import annotations

import pprint
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from cts_core.placeholders import format_arguments, format_placeholder
from cts_core.worker.units import format_exact_size
from cts_jupyter.formatting import format_brief_duration
from cts_jupyter.notebook.placeholders import ArgumentsError, parse_arguments, quote_word
from cts_jupyter.notebook.tsv import format_tsv
from cts_jupyter.times import parse_duration

Body = Mapping[str, Any]
"""A submission as JSON: the contract's job input, and ``labels``."""

_DEFAULTS: Mapping[str, object] = {"num_containers": 1, "cpus": 1, "labels": {}}
_DEFAULT_PARAMS: Mapping[str, object] = {
    "input_mount_point": "/input_files",
    "output_mount_point": "/output_files",
    "declobber": False,
}
_LINE_WIDTH = 100


class SerializeError(ValueError):
    """The job cannot be serialized in this form; the message names a form in which it can."""


def _without_defaults(body: Body) -> dict[str, Any]:
    kept = {key: value for key, value in body.items() if not _is_default(value, _DEFAULTS.get(key))}
    params = {
        key: value
        for key, value in body["params"].items()
        if not _is_default(value, _DEFAULT_PARAMS.get(key))
    }
    kept |= {"params": params, "input_files": _files(body["input_files"])}
    if isinstance(kept.get("memory"), int):
        kept["memory"] = format_exact_size(kept["memory"])
    return kept


def _is_default(value: object, default: object) -> bool:
    return value is None or (value == default and type(value) is type(default))


def _readable(body: Body) -> dict[str, Any]:
    """Return the submission without defaults and with a brief duration, for forms that parse it."""
    short = _without_defaults(body)
    if isinstance(short.get("runtime"), str):
        with suppress(ValueError):
            short["runtime"] = format_brief_duration(parse_duration(short["runtime"]))
    return short


def _files(files: Sequence[str | Mapping[str, Any]]) -> list[Any]:
    """Return the files as plain paths if none has a checksum or data id, else as objects."""
    plain = [file if isinstance(file, str) else file["file"] for file in files]
    if all(isinstance(file, str) or _is_plain(file) for file in files):
        return plain
    return [dict(file) if isinstance(file, Mapping) else {"file": file} for file in files]


def _is_plain(file: Mapping[str, Any]) -> bool:
    return file.get("crc64nvme") is None and file.get("data_id") is None


def write_tsv(files: Sequence[str | Mapping[str, Any]], path: Path) -> None:
    """Write input files as a table that ``--tsv`` reads: path, data id, checksum. Raises SerializeError."""
    rows = [["file", "data_id", "crc64nvme"]]
    for file in files:
        entry = {"file": file} if isinstance(file, str) else file
        rows.append([entry["file"], entry.get("data_id") or "", entry.get("crc64nvme") or ""])
    try:
        path.write_bytes(format_tsv(rows))
    except ValueError as e:
        raise SerializeError(f"A table cannot hold every data id: {e}; use as_yaml()") from None


def _params_options(params: Mapping[str, Any]) -> list[str]:
    words = []
    for option, key in (
        ("--input-mount", "input_mount_point"),
        ("--output-mount", "output_mount_point"),
        ("--refdata-mount", "refdata_mount_point"),
    ):
        if key in params:
            words += [option, params[key]]
    if params.get("declobber"):
        words.append("--declobber")
    for name, value in (params.get("environment") or {}).items():
        text = value if isinstance(value, str) else format_placeholder(value)
        words += ["--env", f"{name}={text}"]
    return words


def _line_paths(files: Sequence[str | Mapping[str, Any]]) -> list[str]:
    paths = [file if isinstance(file, str) else file["file"] for file in files]
    with_id = any(isinstance(file, Mapping) and file.get("data_id") is not None for file in files)
    if with_id or any(path.endswith("/") for path in paths):
        raise SerializeError(
            "A line cannot say data ids, nor paths that end in '/': use as_yaml(), or "
            "as_line(tsv='inputs.tsv') to have them written to a file"
        )
    return paths


def as_line(body: Body, *, tsv: Path | None = None, sources: Sequence[str] | None = None) -> str:
    """Return the line ``%cts submit ...`` for a submission.

    Input files are named by ``sources``, the options by which they were, else by their paths; with ``tsv`` they are
    written to that file, with the data ids and checksums that a line cannot hold. A flag that stands before a file parameter becomes a word of its own, which
    makes no difference to containers. Raises SerializeError for files that need ``tsv``, or that it cannot hold.
    """
    short = _readable(body)
    files = body["input_files"]
    words = ["%cts", "submit", body["image"]]
    if tsv is not None:
        write_tsv(files, tsv)
        words += ["--tsv", str(tsv)]
    else:
        words += sources or ["-i", *_line_paths(files)]
    for option, key in (
        ("--output-dir", "output_dir"),
        ("--memory", "memory"),
        ("--runtime", "runtime"),
        ("--cluster", "cluster"),
        ("-n", "num_containers"),
        ("-c", "cpus"),
    ):
        if key in short:
            words += [option, str(short[key])]
    for root in short.get("input_roots") or []:
        words += ["--input-root", root]
    words += _params_options(short["params"])
    for name, value in short.get("labels", {}).items():
        words += ["--label", f"{name}={value}"]
    args = short["params"].get("args")
    if args is not None:
        words += ["--", *format_arguments(args)]
    return " ".join(quote_word(word) for word in words)


def _yaml_args(args: Sequence[Any]) -> list[Any]:
    """Return arguments as the words of a line if those parse to the same, else unchanged."""
    words = format_arguments(args)
    try:
        is_same = parse_arguments(words).args == list(args)
    except ArgumentsError:
        # Of a draft, which may hold what no container can be given.
        is_same = False
    return words if is_same else list(args)


def _escape(tree: object) -> object:
    if isinstance(tree, str):
        return tree.replace("$", "$$")
    if isinstance(tree, Mapping):
        return {key: _escape(value) for key, value in tree.items()}
    if isinstance(tree, Sequence):
        return [_escape(item) for item in tree]
    return tree


def as_yaml(body: Body) -> str:
    """Return a ``%%cts submit`` cell for a submission."""
    short = _readable(body)
    args = short["params"].get("args")
    if args is not None:
        short["params"] = {**short["params"], "args": _yaml_args(args)}
    text = yaml.safe_dump(_escape(short), sort_keys=False, allow_unicode=True, width=_LINE_WIDTH)
    return f"%%cts submit\n{text}"


def as_python(body: Body) -> str:
    """Return a Python call for a submission."""
    short = _without_defaults(body)
    fields = []
    for key, value in short.items():
        text = pprint.pformat(value, width=_LINE_WIDTH - 4, sort_dicts=False)
        fields.append(
            f"    {key}={text.replace(chr(10), chr(10) + '    ' + ' ' * (len(key) + 1))},"
        )
    return "\n".join(["from cts_jupyter import submit", "", "job = submit(", *fields, ")"])
