"""Translates the output of a container runtime to a sentence for the job's owner."""

from __future__ import annotations

import re

from cts_core.worker.files import says_full

_NOT_FOUND = re.compile(
    r"manifest (for \S+ )?(unknown|not found)|name unknown|not found: (manifest|name)|404 not found|"
    r"repository does not exist|reading manifest \S+ in \S+: (name|manifest)",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"unauthorized|authentication required|denied|forbidden|\b40[13]\b", re.IGNORECASE
)
_UNREACHABLE = re.compile(
    r"connection (refused|reset|broken|lost|aborted|force closed)|broken connection|closed (idle|network) connection|"
    r"goaway|stream error|no such host|server misbehaving|temporary failure|timeout|timed out|deadline exceeded|"
    r"network is unreachable|no route to host|host is (down|unreachable)|tls|x509|server gave http response|"
    r"broken pipe|\bEOF\b|"
    r"too ?many ?requests|\b(429|500|502|503|504)\b|is the docker daemon running|gave no answer",
    re.IGNORECASE,
)
_DAMAGED = re.compile(
    r"applying layer|applylayer|unpacking layer|failed to register layer|processing tar|did not match|does not match|mismatch",
    re.IGNORECASE,
)
"""Failures after a complete download: a message such as unexpected EOF is then not due to the network."""
_UNSUPPORTED = re.compile(
    r"no matching manifest|no image found|invalid|unsupported|unmarshal", re.IGNORECASE
)
_NO_ENTRYPOINT = re.compile(
    r"executable file not found|no such file or directory|command that was not found|not found in \$PATH",
    re.IGNORECASE,
)
_TOO_LONG = re.compile(r"argument list too long", re.IGNORECASE)
TOO_LONG = (
    "Its arguments and environment together are longer than the system that it runs on takes: name its files by a "
    "manifest, or use more containers."
)
"""The message for a command line beyond the system's limit."""
_NOT_EXECUTABLE = re.compile(r"permission denied|exec format error|is a directory", re.IGNORECASE)


def is_temporary(message: str) -> bool:
    """Return whether it is worthwhile to pull the image again."""
    is_final = says_full(message) or _NOT_FOUND.search(message) or _DAMAGED.search(message)
    return bool(_UNREACHABLE.search(message)) and not is_final


def pull_failure(image: str, message: str) -> str:
    """Return why an image could not be pulled."""
    if says_full(message):
        return (
            f"This machine has no room for the image {image}, where images are kept or where they are unpacked: an "
            f"administrator has to make some. ({message})"
        )
    if _NOT_FOUND.search(message):
        return f"The image {image} is not in its registry any more: register it again. ({message})"
    if is_temporary(message):
        return (
            f"The registry of the image {image} cannot be reached: submit again later. ({message})"
        )
    if _REFUSED.search(message):
        return (
            f"The registry refuses to give the image {image} to everybody, and CTS has no login there: make it "
            f"public, or use another. ({message})"
        )
    if _DAMAGED.search(message) or _UNSUPPORTED.search(message):
        return (
            f"The image {image} is damaged, or of a kind that this machine cannot use: build and push it again, "
            f"and register it anew. ({message})"
        )
    return f"The image {image} could not be fetched. ({message})"


def start_failure(entrypoint: str, message: str) -> str:
    """Return why a container whose image is present could not be started."""
    if says_full(message):
        return f"The disk on which this machine keeps containers is full: submit again later. ({message})"
    if _TOO_LONG.search(message):
        return TOO_LONG
    name = re.escape(entrypoint)
    names_entrypoint = re.search(rf'exec:? "?{name}\b|"{name}"|stat {name}:', message)
    if names_entrypoint and _NO_ENTRYPOINT.search(message):
        return (
            f"The image has no program {entrypoint}, which is its entrypoint: build it with one that is there, and "
            f"register it anew. ({message})"
        )
    if names_entrypoint and _NOT_EXECUTABLE.search(message):
        return (
            f"The image's entrypoint {entrypoint} cannot be executed: it needs the permission, and has to be built "
            f"for this machine's processor. ({message})"
        )
    return f"The container could not be started. ({message})"
