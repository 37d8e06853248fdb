"""Where the service is, and which of its URLs a request may reach: those below its own path, and no others."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, unquote, unquote_plus, urljoin, urlsplit

from cts_core.errors import NotFoundError

_PORTS = {"http": 80, "https": 443}
_KEPT = "!\"$%&'()*+,-./:;<=>?@[]^_`{|}~"
"""Signs that are sent as they came; letters and digits always are."""
_MAX_DECODINGS = 5
"""How often a path may have been percent-encoded before nobody can say what it means."""
_SEPARATOR = re.compile(r"[/\\]")
_JUPYTERS = frozenset({"token", "_xsrf"})
"""Parameters of a query in which Jupyter takes secrets of its own."""


@dataclass(frozen=True)
class ServiceAddress:
    """A service's URL in parts; ``path`` has no slash at its end."""

    url: str
    is_tls: bool
    host: str
    port: int
    host_header: str
    path: str

    @classmethod
    def of(cls, url: str) -> Self:
        """The address of a URL that the settings have checked."""
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
        """What to ask the service for; ``rest`` is the raw path below ``/cts``, ``query`` the raw query.

        Slashes stay as they are, since the service forgives careless ones itself. Raises NotFoundError for a
        path that would leave the service's own in anybody's reading.
        """
        if _climbs(rest):
            raise NotFoundError
        kept = "&".join(
            parameter
            for parameter in query.split("&")
            if unquote_plus(parameter.partition("=")[0]) not in _JUPYTERS
        )
        target = f"{self.path}/{_visible(rest.removeprefix('/'))}"
        return f"{target}?{_visible(kept)}" if kept else target

    def local(self, location: str, target: str, root: str) -> str | None:
        """Where a redirect of the service leads below our own ``root``; None for one that leads elsewhere.

        Scheme and port are not compared: behind a proxy, services are often wrong about both.
        """
        try:
            parts = urlsplit(urljoin(f"{self.url}{target.removeprefix(self.path)}", location))
        except ValueError:
            return None
        rest = parts.path.removeprefix(self.path)
        is_below = parts.path.startswith(f"{self.path}/") or parts.path == self.path
        if parts.hostname != self.host or not is_below or _climbs(rest):
            return None
        query = f"?{_visible(parts.query)}" if parts.query else ""
        return f"{root}{_visible(rest)}{query}"


def _visible(text: str) -> str:
    # Tornado reads a request line as Latin-1, so this gives back its bytes.
    return quote(text.encode("latin-1"), safe=_KEPT)


def _climbs(path: str) -> bool:
    """Whether a segment means this folder or the one above, however often somebody may decode it."""
    for _ in range(_MAX_DECODINGS):
        segments = (segment.partition(";")[0] for segment in _SEPARATOR.split(path))
        if any(segment in (".", "..") for segment in segments):
            return True
        decoded = unquote(path)
        if decoded == path:
            return False
        path = decoded
    return True
