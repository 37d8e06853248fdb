"""GETs against a registry and whoever it sends us to: bounded, and to nobody on the inside.

A registry is somebody else's program. It chooses where tokens come from and where blobs are redirected to, so
that it could have this server call what only this server reaches. Hence the name is resolved here, the addresses
are looked at, and the connection goes to what was looked at.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import httpx

from cts_core.errors import ImageFetchError

MAX_REDIRECTS = 5
_MAX_ADDRESSES = 4
"""Addresses of one host that are tried."""
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Answer:
    """What came back, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def is_loopback(host: str) -> bool:
    """Whether a host, without port, says of itself that it is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Web:
    """The web as one registry may show it to us."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        registry: str,
        *,
        plain_http: Collection[str],
        private_hosts: Collection[str],
    ) -> None:
        """``registry``: host, with a port if it has one. ``plain_http`` and ``private_hosts``: the same."""
        self._client = client
        self._plain = plain_http
        self._private = {*plain_http, *private_hosts, registry}
        scheme = "http" if self._may_be_plain(registry) else "https"
        self.registry = httpx.URL(f"{scheme}://{registry}/")
        self._is_at_home = is_loopback(self.registry.host)

    def _may_be_plain(self, place: str) -> bool:
        return place in self._plain or is_loopback(httpx.URL(f"//{place}").host)

    async def get(
        self, url: httpx.URL, *, limit: int, accept: str = "*/*", token: str | None = None
    ) -> Answer:
        """The answer at ``url``, of at most ``limit`` bytes; only the registry itself is shown the token.

        Raises ImageFetchError, and httpx.HTTPError and OSError for what happens on the way.
        """
        for _ in range(MAX_REDIRECTS + 1):
            headers = {"Accept": accept, "Accept-Encoding": "identity"}
            if token is not None and _origin(url) == _origin(self.registry):
                headers["Authorization"] = f"Bearer {token}"
            answer = await self._get_once(url, headers, limit)
            if not isinstance(answer, httpx.URL):
                return answer
            url = answer
        raise ImageFetchError(
            f"The registry {self.registry.host} redirects more than {MAX_REDIRECTS} times"
        )

    async def _get_once(
        self, url: httpx.URL, headers: Mapping[str, str], limit: int
    ) -> Answer | httpx.URL:
        """The answer, or where it is to be found."""
        addresses = await self._addresses(url)
        for left, address in enumerate(addresses, 1 - len(addresses)):
            try:
                async with self._client.stream(
                    "GET",
                    url.copy_with(host=address),
                    headers={**headers, "Host": url.netloc.decode()},
                    # The certificate must be the name's, although the address is what we connect to.
                    extensions={"sni_hostname": url.host},
                ) as response:
                    if response.has_redirect_location:
                        return self._follow(url, response.headers["Location"])
                    body = await self._read(response, limit)
                    return Answer(response.status_code, response.headers, body)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if not left:
                    raise
        raise ImageFetchError(f"The host {url.host} has no address")

    def _follow(self, url: httpx.URL, location: str) -> httpx.URL:
        try:
            return url.join(location)
        except httpx.InvalidURL as e:
            raise ImageFetchError(
                f"The registry {self.registry.host} redirects to what is no URL"
            ) from e

    async def _read(self, response: httpx.Response, limit: int) -> bytes:
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise ImageFetchError(
                f"The registry {self.registry.host} sends a compressed answer that was not asked for"
            )
        body = bytearray()
        async for piece in response.aiter_raw():
            body += piece
            if len(body) > limit:
                raise ImageFetchError(
                    f"The registry {self.registry.host} sends more than the {limit} bytes that an image's "
                    "description may have"
                )
        return bytes(body)

    async def _addresses(self, url: httpx.URL) -> list[str]:
        place = url.netloc.decode()
        near = self._is_at_home and is_loopback(url.host)
        plain = url.scheme == "http" and (place in self._plain or near)
        if (url.scheme != "https" and not plain) or url.userinfo:
            raise ImageFetchError(
                f"The registry {self.registry.host} sends us to {url.host} by other means than plain https; "
                "images.plain_http names the hosts that may be reached by http"
            )
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                url.host, url.port or _DEFAULT_PORTS[url.scheme], type=socket.SOCK_STREAM
            )
        except (OSError, UnicodeError, OverflowError) as e:
            raise ImageFetchError(f"The host {url.host} cannot be found: {e}") from e
        addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
        if not near and place not in self._private:
            for address in addresses:
                if not ipaddress.ip_address(address.partition("%")[0]).is_global:
                    raise ImageFetchError(
                        f"The registry {self.registry.host} sends us to {url.host}, which is not on the public "
                        "Internet; images.private_hosts names such hosts that are meant"
                    )
        return addresses[:_MAX_ADDRESSES]


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
