"""Advice for errors of the service."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path

from cts_core.errors import ErrorKind
from cts_core.model.service import CTSRole
from cts_jupyter.client.client import CTSClient
from cts_jupyter.client.faults import describe_faults
from cts_jupyter.client.models import ImageHelp
from cts_jupyter.client.resubmit import folder_hint
from cts_jupyter.client.transport import CTSClientError, CTSRequestError
from cts_jupyter.formatting import STATE_GROUPS, nearest
from cts_jupyter.notebook.magics.braces import literal_prefix, matches
from cts_jupyter.notebook.magics.local_files import is_local

_HINTS: dict[ErrorKind, str] = {
    ErrorKind.NO_TOKEN: "set KBASE_AUTH_TOKEN",
    ErrorKind.INVALID_TOKEN: "set KBASE_AUTH_TOKEN to a valid token",
    ErrorKind.NO_SUCH_IMAGE: "%cts images lists the images that are there",
    ErrorKind.NO_SUCH_REFDATA: "%cts refdata lists the reference data that is there",
    ErrorKind.NO_SUCH_JOB: "%cts ls lists your jobs",
    ErrorKind.PATH_NOT_FOUND: "%cts files FOLDER/ lists what is there; patterns go with -g",
    ErrorKind.BUCKET_NOT_FOUND: "%cts put creates it with its first file",
    ErrorKind.PATH_INACCESSIBLE: "%cts whoami says which paths you may use",
    ErrorKind.SITE_INACTIVE: "%cts sites says which sites are open",
    ErrorKind.SITE_UNAVAILABLE: "%cts sites says which sites there are",
    ErrorKind.CHECKSUM_MISMATCH: "%cts verify PATH says what became of a file",
}
_BY_CODE = {kind.appcode: hint for kind, hint in _HINTS.items()}
_NOTHING_THERE = {ErrorKind.PATH_NOT_FOUND.appcode, ErrorKind.BUCKET_NOT_FOUND.appcode}
_NO_BUCKET = re.compile(r"Bucket name .*: (?P<bucket>.+)|Path '(?P<path>.+)' cannot start with")
_NOT_FOUND = re.compile(r"path '([^']+)' was not found")
_MAX_LOOKED_AT = 1000
"""The files and folders among which a similar name is looked for."""
_REGISTER = "--register"
_NO_CHECKSUM = "does not have a CRC64/NVME checksum"


OPTIONS: dict[str, str] = {
    "image": "IMAGE",
    "input_files": "-i",
    "output_dir": "--output-dir",
    "memory": "--memory",
    "runtime": "--runtime",
    "cluster": "--cluster",
    "num_containers": "-n",
    "cpus": "-c",
    "input_roots": "--input-root",
    "labels": "--label",
    "environment": "--env",
    "declobber": "--declobber",
    "input_mount_point": "--input-mount",
    "output_mount_point": "--output-mount",
    "refdata_mount_point": "--refdata-mount",
}
"""The option of a line that sets each field of a request."""


def format_error(error: CTSClientError, client: CTSClient, names: Mapping[str, str]) -> str:
    """Return an error as one line that ends with advice. ``names`` are what the person calls the fields of a request."""
    # The deployed service transposes the letters.
    text = str(error).strip().replace("CRC64/NMVE", "CRC64/NVME")
    if not isinstance(error, CTSRequestError):
        return text
    if error.details:
        text = describe_faults(error.details, names, {"state": tuple(STATE_GROUPS)})
    if error.image_help is not None:
        return f"{text.rstrip('.')}. {_format_image_help(error.image_help, client)}"
    hint = _BY_CODE.get(error.appcode)
    if _NO_CHECKSUM in text:
        hint = "%cts checksum PATH --write computes and stores it"
    if place := _NO_BUCKET.search(text):
        typed = place["path"] or place["bucket"]
        local = local_hint(typed) if Path(typed).is_file() else None
        hint = local or "a path begins with a bucket's name: %cts files lists where you may look"
    if error.appcode in _NOTHING_THERE and (path := _NOT_FOUND.search(text)):
        with suppress(CTSClientError):
            hint = path_hint(client, path[1]) or hint
    if hint is None or "%cts" in text:
        return text
    return f"{text.rstrip('.')}; {hint}"


def path_hint(client: CTSClient, path: str) -> str | None:
    """Return the advice for a path that is no object; None for one that is like nothing. Raises CTSClientError."""
    return (
        folder_hint(client, path)
        or pattern_hint(client, path)
        or local_hint(path)
        or near_hint(client, path)
    )


def pattern_hint(client: CTSClient, path: str) -> str | None:
    """Return the advice for a path that is no object, but a pattern of some; None for others. Raises CTSClientError."""
    try:
        prefix = literal_prefix(path)
        if prefix == path or not _has_match(client, prefix, path):
            return None
    except ValueError:
        return None
    folder, slash, name = path.rpartition("/")
    if not prefix.startswith(f"{folder}{slash}"):
        folder, name = prefix.rpartition("/")[0], path
    return (
        f"patterns go with -g: -g {shlex.quote(path)} for the inputs of a job, else %cts files {folder}/ -g {shlex.quote(name)} "
        "-o found, and then $found"
    )


def _has_match(client: CTSClient, prefix: str, pattern: str) -> bool:
    if "/" not in prefix:
        return False
    try:
        page = client.files(prefix, limit=_MAX_LOOKED_AT)
    except CTSRequestError as e:
        if e.status != HTTPStatus.NOT_FOUND:
            raise
        return False
    return any(matches(stored.path, pattern) for stored in page.objects)


def near_hint(client: CTSClient, path: str) -> str | None:
    """Return which stored file or folder may have been meant by a path that is none. Raises CTSClientError."""
    name, below = path.rstrip("/"), ""
    while name:
        parent, slash, last = name.rpartition("/")
        there = _names_in(client, f"{parent}/" if slash else "")
        if there:
            near = nearest(last, [name for name in there if there[name].endswith("/") or not below])
            return f"did you mean {parent}{slash}{there[near[0]]}{below}?" if near else None
        name, below = parent, f"{last}{path[len(name) :]}" if not below else f"{last}/{below}"
    return None


def _names_in(client: CTSClient, folder: str) -> dict[str, str]:
    """Return the names of files and folders in a folder, or of the buckets, each with the slash of a folder by the one without."""
    try:
        if folder:
            page = client.files(folder, folders=True, limit=_MAX_LOOKED_AT)
            found = [*page.folders, *(stored.path for stored in page.objects)]
        else:
            found = [root.path for root in client.roots()]
    except CTSRequestError as e:
        if e.status != HTTPStatus.NOT_FOUND:
            raise
        return {}
    names = [path.removeprefix(folder) for path in found]
    return {name.rstrip("/"): name for name in names}


def local_hint(path: str) -> str | None:
    """Return the advice for a path that is no object, but a file of this machine."""
    if not is_local(path):
        return None
    return f"it is on this machine: %cts put {shlex.quote(path)} BUCKET/FOLDER/ stores it"


def _is_admin(client: CTSClient) -> bool:
    try:
        return CTSRole.FULL_ADMIN in client.whoami().roles
    except CTSClientError:
        return False


def _requested(help_: ImageHelp) -> str:
    words = (help_.command or "").split()
    return words[words.index(_REGISTER) + 1] if _REGISTER in words[:-1] else ""


def _last_part(image: str) -> str:
    """Return the part of an image's name that people know it by."""
    return re.split("[:@]", image.rpartition("/")[2])[0]


def _format_image_help(help_: ImageHelp, client: CTSClient) -> str:
    if same := [
        name for name in help_.nearest if _last_part(name) == _last_part(_requested(help_))
    ]:
        return f"Did you mean {' or '.join(same)}?"
    if help_.nearest:
        advice = f"Registered under similar names: {', '.join(help_.nearest)}."
    else:
        advice = "%cts images lists the images that are there."
    if help_.command and _is_admin(client):
        advice += f" To register this one: {help_.command}"
    elif help_.request:
        recipient = help_.contact or "whoever runs the service"
        advice += f" If you need this one, send {recipient} this: {help_.request}"
    return advice
