"""From what a container runtime says to a sentence for the container's owner. Pure."""

from __future__ import annotations

import re

_FULL = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)
_GONE = re.compile(
    r"manifest (for \S+ )?(unknown|not found)|name unknown|not found: (manifest|name)|404 not found|"
    r"repository does not exist|reading manifest \S+ in \S+: (name|manifest)",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"unauthorized|authentication required|denied|forbidden|\b40[13]\b", re.IGNORECASE
)
_AWAY = re.compile(
    r"connection refused|connection reset|no such host|server misbehaving|timeout|timed out|deadline exceeded|"
    r"network is unreachable|no route to host|tls|x509|server gave http response|broken pipe|\bEOF\b|"
    r"too ?many ?requests|\b(429|500|502|503|504)\b|is the docker daemon running|gave no answer",
    re.IGNORECASE,
)
_DAMAGED = re.compile(
    r"applying layer|applylayer|unpacking layer|failed to register layer|processing tar|did not match|does not match|mismatch",
    re.IGNORECASE,
)
"""Of what came whole: how it ends, such as by an unexpected EOF, is no fault of the network."""
_UNFIT = re.compile(
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
"""Why a program could not be started."""
_NOT_EXECUTABLE = re.compile(r"permission denied|exec format error|is a directory", re.IGNORECASE)


def is_temporary(said: str) -> bool:
    """Whether it is worthwhile to fetch an image again."""
    final = (_FULL, _GONE, _DAMAGED)
    return bool(_AWAY.search(said)) and not any(pattern.search(said) for pattern in final)


def pull_failure(image: str, said: str) -> str:
    """Why an image is not here."""
    if _FULL.search(said):
        return (
            f"This machine has no room for the image {image}, where images are kept or where they are unpacked: an "
            f"administrator has to make some. ({said})"
        )
    if _GONE.search(said):
        return f"The image {image} is not in its registry any more: register it again. ({said})"
    if is_temporary(said):
        return f"The registry of the image {image} cannot be reached: submit again later. ({said})"
    if _REFUSED.search(said):
        return (
            f"The registry refuses to give the image {image} to everybody, and CTS has no login there: make it "
            f"public, or use another. ({said})"
        )
    if _DAMAGED.search(said) or _UNFIT.search(said):
        return (
            f"The image {image} is damaged, or of a kind that this machine cannot use: build and push it again, "
            f"and register it anew. ({said})"
        )
    return f"The image {image} could not be fetched. ({said})"


def start_failure(entrypoint: str, said: str) -> str:
    """Why a container whose image is here was never started."""
    if _FULL.search(said):
        return (
            f"The disk on which this machine keeps containers is full: submit again later. ({said})"
        )
    if _TOO_LONG.search(said):
        return TOO_LONG
    name = re.escape(entrypoint)
    named = re.search(rf'exec:? "?{name}\b|"{name}"|stat {name}:', said)
    if named and _NO_ENTRYPOINT.search(said):
        return (
            f"The image has no program {entrypoint}, which is its entrypoint: build it with one that is there, and "
            f"register it anew. ({said})"
        )
    if named and _NOT_EXECUTABLE.search(said):
        return (
            f"The image's entrypoint {entrypoint} cannot be executed: it needs the permission, and has to be built "
            f"for this machine's processor. ({said})"
        )
    return f"The container could not be started. ({said})"
