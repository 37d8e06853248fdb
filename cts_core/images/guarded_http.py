"""An HTTP client for registries and the hosts that they refer to, guarded against server-side request forgery (SSRF).

A registry is not trusted. It chooses where tokens come from and where blobs are redirected to, so that it could make
this server call hosts that only this server reaches. Hence this client resolves names itself, checks the addresses,
and connects to the addresses that it has checked. Redirects and sizes of responses are bounded.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import httpx

from cts_core.errors import ImageFetchError
from cts_core.images.names import MAX_PORT

MAX_REDIRECTS = 5
_MAX_ADDRESSES = 4
"""Addresses of one host that are tried."""
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Response:
    """A whole response."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def is_loopback(host: str) -> bool:
    """Return whether a host, without port, is ``localhost`` or a loopback address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class GuardedClient:
    """Sends GET requests on behalf of one registry, to it and to the public hosts that it refers to."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        registry: str,
        *,
        plain_http: Collection[str],
        private_hosts: Collection[str],
    ) -> None:
        """``registry``, ``plain_http`` and ``private_hosts`` are hosts, with ``:port`` if they have one."""
        self._client = client
        self._plain_http = plain_http
        self._private_hosts = {*plain_http, *private_hosts, registry}
        scheme = "http" if self._allows_plain_http(registry) else "https"
        self.registry = httpx.URL(f"{scheme}://{registry}/")
        self._is_local_registry = is_loopback(self.registry.host)

    def _allows_plain_http(self, host_and_port: str) -> bool:
        return host_and_port in self._plain_http or is_loopback(
            httpx.URL(f"//{host_and_port}").host
        )

    async def get(
        self, url: httpx.URL, *, limit: int, accept: str = "*/*", token: str | None = None
    ) -> Response:
        """Return the response of ``url``, of at most ``limit`` bytes; the token is sent only to the registry itself.

        Raises ImageFetchError, and httpx.HTTPError and OSError for errors of the network.
        """
        for _ in range(MAX_REDIRECTS + 1):
            headers = {"Accept": accept, "Accept-Encoding": "identity"}
            if token is not None and _origin(url) == _origin(self.registry):
                headers["Authorization"] = f"Bearer {token}"
            result = await self._get_once(url, headers, limit)
            if isinstance(result, Response):
                return result
            url = result
        raise ImageFetchError(
            f"The registry {self.registry.host} redirects more than {MAX_REDIRECTS} times"
        )

    async def _get_once(
        self, url: httpx.URL, headers: Mapping[str, str], limit: int
    ) -> Response | httpx.URL:
        """Return the response, or the URL of a redirect."""
        addresses = await self._resolve(url)
        for left, address in enumerate(addresses, 1 - len(addresses)):
            try:
                async with self._client.stream(
                    "GET",
                    url.copy_with(host=address),
                    headers={**headers, "Host": url.netloc.decode()},
                    # The certificate must be that of the name, although the connection goes to the address.
                    extensions={"sni_hostname": url.host},
                ) as response:
                    if response.has_redirect_location:
                        return self._redirect_target(url, response.headers["Location"])
                    body = await self._read(response, limit)
                    return Response(response.status_code, response.headers, body)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if not left:
                    raise
        raise ImageFetchError(f"The host {url.host} has no address")

    def _redirect_target(self, url: httpx.URL, location: str) -> httpx.URL:
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
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > limit:
                raise ImageFetchError(
                    f"The registry {self.registry.host} sends more than the {limit} bytes that an image's "
                    "description may have"
                )
        return bytes(body)

    async def _resolve(self, url: httpx.URL) -> list[str]:
        host_and_port = url.netloc.decode()
        is_local = self._is_local_registry and is_loopback(url.host)
        plain = url.scheme == "http" and (host_and_port in self._plain_http or is_local)
        if (url.scheme != "https" and not plain) or url.userinfo:
            raise ImageFetchError(
                f"The registry {self.registry.host} sends us to {url.host} by other means than plain https; "
                "images.plain_http names the hosts that may be reached by http"
            )
        port = url.port or _DEFAULT_PORTS[url.scheme]
        if port > MAX_PORT:
            raise ImageFetchError(
                f"The registry {self.registry.host} sends us to port {port}, and no host has more than {MAX_PORT}"
            )
        try:
            resolved = await asyncio.get_running_loop().getaddrinfo(
                url.host, port, type=socket.SOCK_STREAM
            )
        except (OSError, UnicodeError) as e:
            raise ImageFetchError(f"The host {url.host} cannot be found: {e}") from e
        addresses = list(dict.fromkeys(str(address[0]) for *_, address in resolved))
        if not is_local and host_and_port not in self._private_hosts:
            for address in addresses:
                if not ipaddress.ip_address(address.partition("%")[0]).is_global:
                    raise ImageFetchError(
                        f"The registry {self.registry.host} sends us to {url.host}, which is not on the public "
                        "Internet; images.private_hosts names such hosts that are meant"
                    )
        return addresses[:_MAX_ADDRESSES]


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
