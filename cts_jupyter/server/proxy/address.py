"""The upstream's address, and the check that a request reaches URLs below its path only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, unquote, unquote_plus, urljoin, urlsplit

from cts_core.errors import NotFoundError

_PORTS = {"http": 80, "https": 443}
_SAFE = "!\"$%&'()*+,-./:;<=>?@[]^_`{|}~"
"""Characters that are forwarded unquoted, besides letters and digits."""
_MAX_DECODINGS = 5
"""How many times a path is decoded in the search for ``..``; a path that is encoded more often is refused."""
_SEPARATOR = re.compile(r"[/\\]")
_JUPYTER_PARAMETERS = frozenset({"token", "_xsrf"})
"""Query parameters that carry Jupyter's own secrets, and are never forwarded."""


@dataclass(frozen=True)
class UpstreamAddress:
    """The upstream's URL in parts; ``path`` has no slash at its end."""

    url: str
    is_tls: bool
    host: str
    port: int
    host_header: str
    path: str

    @classmethod
    def parse(cls, url: str) -> Self:
        """Return the parts of a URL that the settings have validated."""
        parts = urlsplit(url)
        return cls(
            url=url,
            is_tls=parts.scheme == "https",
            host=parts.hostname or "",
            port=parts.port or _PORTS[parts.scheme],
            host_header=parts.netloc,
            path=parts.path.rstrip("/"),
        )

    def target(self, rest: str, query: str = "") -> str:
        """Return the request target; ``rest`` is the raw path below ``/cts``, ``query`` the raw query.

        Slashes stay as they are, since the upstream normalizes them itself. Raises NotFoundError for a path that
        any server on the way could read as leaving the upstream's own path.
        """
        if _is_traversal(rest):
            raise NotFoundError
        forwarded = "&".join(
            parameter
            for parameter in query.split("&")
            if unquote_plus(parameter.partition("=")[0]) not in _JUPYTER_PARAMETERS
        )
        target = f"{self.path}/{_quote(rest.removeprefix('/'))}"
        return f"{target}?{_quote(forwarded)}" if forwarded else target

    def to_local(self, location: str, target: str, root: str) -> str | None:
        """Return a redirect's target below our own ``root``; None for a redirect that leaves the upstream.

        Scheme and port are not compared: behind a proxy, services often report both wrongly.
        """
        try:
            parts = urlsplit(urljoin(f"{self.url}{target.removeprefix(self.path)}", location))
        except ValueError:
            return None
        rest = parts.path.removeprefix(self.path)
        is_below = parts.path.startswith(f"{self.path}/") or parts.path == self.path
        if parts.hostname != self.host or not is_below or _is_traversal(rest):
            return None
        query = f"?{_quote(parts.query)}" if parts.query else ""
        return f"{root}{_quote(rest)}{query}"


def _quote(text: str) -> str:
    # tornado decodes a request line as Latin-1, so this gives back its bytes.
    return quote(text.encode("latin-1"), safe=_SAFE)


def _is_traversal(path: str) -> bool:
    """Return whether a segment is ``.`` or ``..``, after any number of percent-decodings."""
    for _ in range(_MAX_DECODINGS):
        segments = (segment.partition(";")[0] for segment in _SEPARATOR.split(path))
        if any(segment in (".", "..") for segment in segments):
            return True
        decoded = unquote(path)
        if decoded == path:
            return False
        path = decoded
    return True
