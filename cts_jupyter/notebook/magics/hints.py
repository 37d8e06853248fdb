"""Advice for errors of the service."""

from __future__ import annotations

from cts_core.errors import ErrorKind
from cts_jupyter.client.models import ImageHelp
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
_NO_CHECKSUM = "does not have a CRC64/NVME checksum"


def format_error(error: CTSClientError) -> str:
    """Return an error as one line that ends with advice."""
    # The deployed service transposes the letters.
    text = str(error).strip().replace("CRC64/NMVE", "CRC64/NVME")
    hint = None
    if isinstance(error, CTSRequestError):
        if error.image_help is not None:
            return f"{text.rstrip('.')}. {_format_image_help(error.image_help)}"
        hint = _BY_CODE.get(error.appcode)
        if _NO_CHECKSUM in text:
            hint = "%cts checksum PATH --write computes and stores it"
    if hint is None or "%cts" in text:
        return text
    return f"{text.rstrip('.')}; {hint}"


def _format_image_help(help_: ImageHelp) -> str:
    if help_.nearest:
        advice = f"Registered under similar names: {', '.join(help_.nearest)}."
    else:
        advice = "%cts images lists the images that are there."
    if help_.request:
        recipient = help_.contact or "whoever runs the service"
        advice += f" If you need this one, send {recipient} this: {help_.request}"
    return advice
