"""Advice for errors of the service."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress

from cts_core.errors import ErrorKind
from cts_core.model.service import CTSRole
from cts_jupyter.client.client import CTSClient
from cts_jupyter.client.faults import describe_faults
from cts_jupyter.client.models import ImageHelp
from cts_jupyter.client.resubmit import folder_hint
from cts_jupyter.client.transport import CTSClientError, CTSRequestError

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
_PATH_NOT_FOUND = ErrorKind.PATH_NOT_FOUND.appcode
_NOT_FOUND = re.compile(r"path '([^']+)' was not found")
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
        text = describe_faults(error.details, names)
    if error.image_help is not None:
        return f"{text.rstrip('.')}. {_format_image_help(error.image_help, client)}"
    hint = _BY_CODE.get(error.appcode)
    if _NO_CHECKSUM in text:
        hint = "%cts checksum PATH --write computes and stores it"
    if error.appcode == _PATH_NOT_FOUND and (path := _NOT_FOUND.search(text)):
        with suppress(CTSClientError):
            hint = folder_hint(client, path[1]) or hint
    if hint is None or "%cts" in text:
        return text
    return f"{text.rstrip('.')}; {hint}"


def _is_admin(client: CTSClient) -> bool:
    try:
        return CTSRole.FULL_ADMIN in client.whoami().roles
    except CTSClientError:
        return False


def _format_image_help(help_: ImageHelp, client: CTSClient) -> str:
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
