"""Hostile registries: responses that must not harm this server (SSRF, sizes, redirects, tokens)."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import pytest

from cts_core.config.sections import ImageSettings
from cts_core.errors import ImageFetchError
from cts_core.images import registry as registries
from cts_core.images.guarded_http import MAX_REDIRECTS, GuardedClient
from cts_core.images.names import parse_image_name
from cts_core.images.registry import HttpRegistry
from tests.services.certificate import self_signed

Reply = tuple[int, Mapping[str, str], bytes]


class HostileServer:
    """A server that sends the responses that a test sets, and records requests."""

    def __init__(self, respond: Callable[[str], Reply], tls: ssl.SSLContext | None = None) -> None:
        self.respond = respond
        self.requests: list[tuple[str, Mapping[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append((self.path, dict(self.headers)))
                status, headers, body = outer.respond(self.path)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    self.wfile.write(body)
                except OSError:
                    self.close_connection = True

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.host = f"127.0.0.1:{self.server.server_port}"

    def header(self, name: str) -> list[str | None]:
        return [headers.get(name) for _, headers in self.requests]


@contextmanager
def running_server(respond: Callable[[str], Reply], **kwargs: Any) -> Iterator[HostileServer]:
    running = HostileServer(respond, **kwargs)
    thread = Thread(target=running.server.serve_forever, args=(0.01,))
    thread.start()
    yield running
    running.server.shutdown()
    thread.join()
    running.server.server_close()


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


CONFIG = json.dumps({"config": {"Entrypoint": ["tool"]}}).encode()
MANIFEST = json.dumps({"schemaVersion": 2, "config": {"digest": digest_of(CONFIG)}}).encode()


def ok(body: bytes, **headers: str) -> Reply:
    return 200, headers, body


async def assert_refused(server: HostileServer, match: str, **settings: Any) -> None:
    with pytest.raises(ImageFetchError, match=match):
        await HttpRegistry(ImageSettings(**settings)).look_up(
            parse_image_name(f"{server.host}/a/b:1")
        )


async def test_valid_registry_is_read():
    with running_server(lambda path: ok(MANIFEST if "manifests" in path else CONFIG)) as server:
        image = await HttpRegistry(ImageSettings()).look_up(parse_image_name(f"{server.host}/a:1"))
    assert (image.digest, image.entrypoint) == (digest_of(MANIFEST), ["tool"])


@pytest.mark.parametrize(
    ("manifest", "match"),
    [
        (b"{", "does not understand"),
        (b"[]", "does not understand"),
        (b"\xff", "does not understand"),
        (b"{}", "of a kind that CTS does not know"),
        (b'{"schemaVersion": 1, "fsLayers": []}', "of a kind that CTS does not know"),
        (b'{"config": {"digest": "../../x"}}', "does not understand"),
        (b'{"config": {"digest": "sha256:%s"}}' % (b"0" * 64), "damaged"),
        (b'{"manifests": []}', "no variant for linux/amd64"),
        (
            b'{"manifests": [], "config": {"digest": "sha256:%s"}}' % (b"0" * 64),
            "ambiguous",
        ),
        (b" " * (registries.MAX_MANIFEST + 1), "more than the 4194304 bytes"),
    ],
)
async def test_invalid_manifests_are_refused(manifest: bytes, match: str):
    with running_server(lambda path: ok(manifest if "manifests" in path else CONFIG)) as server:
        await assert_refused(server, match)


async def test_manifest_with_another_digest_is_refused():
    with running_server(lambda _: ok(MANIFEST)) as server:
        name = parse_image_name(f"{server.host}/a@sha256:{'1' * 64}")
        with pytest.raises(ImageFetchError, match="damaged"):
            await HttpRegistry(ImageSettings()).look_up(name)


async def test_endless_index_is_refused():
    index = {"manifests": [{"digest": "", "platform": {"os": "linux", "architecture": "amd64"}}]}
    index["manifests"][0]["digest"] = digest_of(b"never")  # type: ignore[index]
    with running_server(lambda _: ok(json.dumps(index).encode())) as server:
        await assert_refused(server, "damaged")
        assert len(server.requests) == 2


async def test_compressed_response_is_refused():
    bomb = gzip.compress(b"0" * (1 << 20))
    with running_server(lambda _: (200, {"Content-Encoding": "gzip"}, bomb)) as server:
        await assert_refused(server, "compressed")


@pytest.mark.parametrize(("status", "match"), [(500, "status 500"), (429, "try again later")])
async def test_other_status_codes(status: int, match: str):
    with running_server(lambda _: (status, {}, b"<html>secret inside</html>")) as server:
        await assert_refused(server, match)


async def test_slow_registry_times_out():
    gate = Event()

    def respond(_: str) -> Reply:
        gate.wait(30)
        return ok(MANIFEST)

    with running_server(respond) as server:
        await assert_refused(server, "no answer within 0.2 seconds", timeout_s=0.2)
        gate.set()


async def test_redirects_are_bounded():
    with running_server(lambda path: (302, {"Location": f"{path}x"}, b"")) as server:
        await assert_refused(server, f"more than {MAX_REDIRECTS} times")
        assert len(server.requests) == MAX_REDIRECTS + 1


@pytest.mark.parametrize("location", ["http://[", "https://x:99999/", "file:///etc/passwd"])
async def test_invalid_redirects_are_refused(location: str):
    with running_server(lambda _: (302, {"Location": location}, b"")) as server:
        await assert_refused(
            server, "redirects to what is no URL|other means than plain https|us to port 99999"
        )


async def test_token_is_sent_to_the_registry_alone():
    token = "the-token"
    with running_server(lambda _: ok(CONFIG)) as storage:

        def respond(path: str) -> Reply:
            if path.startswith("/token"):
                return ok(json.dumps({"access_token": token}).encode())
            if server.requests[-1][1].get("Authorization") != f"Bearer {token}":
                realm = f'Bearer realm="http://{server.host}/token?x=1",service="s s"'
                return 401, {"WWW-Authenticate": realm}, b""
            if "blobs" in path:
                return 307, {"Location": f"http://{storage.host}/signed?key=1"}, b""
            return ok(MANIFEST)

        with running_server(respond) as server:
            name = parse_image_name(f"{server.host}/a/b:1")
            image = await HttpRegistry(ImageSettings()).look_up(name)
    assert image.entrypoint == ["tool"]
    assert [path for path, _ in server.requests] == [
        "/v2/a/b/manifests/1",
        "/token?x=1&scope=repository%3Aa%2Fb%3Apull&service=s+s",
        "/v2/a/b/manifests/1",
        f"/v2/a/b/blobs/{digest_of(CONFIG)}",
    ]
    assert server.header("Authorization")[1] is None or "Bearer" not in str(server.requests[1])
    assert storage.header("Authorization") == [None]


@pytest.mark.parametrize(
    ("challenge", "match"),
    [
        ("Basic realm=x", "no public image"),
        ("Bearer", "no public image"),
        ('Bearer realm="http://192.0.2.1/token"', "other means than plain https"),
        ('Bearer realm="https://u:p@example.org/token"', "other means than plain https"),
        ('Bearer realm="https://x:y"', "names no URL"),
        ('Bearer realm="https://["', "cannot be found"),
        ('Bearer realm="https://127.0.0.1:65536/token"', "sends us to port 65536"),
    ],
)
async def test_invalid_challenges_are_refused(challenge: str, match: str):
    with running_server(lambda _: (401, {"WWW-Authenticate": challenge}, b"")) as server:
        await assert_refused(server, match)


@pytest.mark.parametrize("respond", [b"{}", b'{"token": "a\\nX: y"}', b'{"token": "\\u00e9"}'])
async def test_invalid_tokens_are_refused(respond: bytes):
    def reply(path: str) -> Reply:
        if path.startswith("/token"):
            return ok(respond)
        return 401, {"WWW-Authenticate": f'Bearer realm="http://{server.host}/token"'}, b""

    with running_server(reply) as server:
        await assert_refused(server, "no public image")


@asynccontextmanager
async def guarded_client(
    registry: str = "registry.example.org", **kwargs: Any
) -> AsyncIterator[GuardedClient]:
    settings = {"plain_http": [], "private_hosts": [], **kwargs}
    verify = settings.pop("verify", True)
    async with httpx.AsyncClient(trust_env=False, verify=verify) as http:
        yield GuardedClient(http, registry, **settings)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "10.1.2.3",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[fd00::1]",
        "2130706433",
        "0x7f.1",
        "0.0.0.0",
    ],
)
async def test_private_addresses_are_refused(host: str):
    async with guarded_client() as client:
        with pytest.raises(ImageFetchError, match="not on the public Internet"):
            await client.get(httpx.URL(f"https://{host}/latest"), limit=10)
        with pytest.raises(ImageFetchError, match="other means than plain https"):
            await client.get(httpx.URL(f"http://{host}/latest"), limit=10)


async def test_name_that_resolves_to_a_private_address_is_refused(monkeypatch: pytest.MonkeyPatch):
    async def resolve(*_: Any, **__: Any) -> list[Any]:
        return [(0, 0, 0, "", ("203.0.113.1", 443)), (0, 0, 0, "", ("10.0.0.1", 443))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    async with guarded_client() as client:
        with pytest.raises(ImageFetchError, match="not on the public Internet"):
            await client.get(httpx.URL("https://inside.example.org/"), limit=10)


async def test_hosts_allowed_by_the_operator_are_reached():
    with running_server(lambda _: ok(b"here")) as server:
        async with guarded_client(plain_http=[server.host]) as client:
            url = httpx.URL(f"http://{server.host}/x")
            assert (await client.get(url, limit=10)).body == b"here"


async def test_certificate_must_match_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async def resolve(host: str, port: int, **_: Any) -> list[Any]:
        # The first address refuses connections, and the next one is tried.
        return [(0, 0, 0, "", (address, port)) for address in ("127.0.0.2", "127.0.0.1")]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    key, cert = self_signed(tmp_path, "DNS:registry.test")
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(cert, key)
    client_context = ssl.create_default_context(cafile=str(cert))
    with running_server(lambda _: ok(b"here"), tls=server_context) as server:
        port = server.server.server_port
        for name, match in (("registry.test", None), ("other.test", "CERTIFICATE_VERIFY_FAILED")):
            async with guarded_client(f"{name}:{port}", verify=client_context) as client:
                url = client.registry.join("/v2/")
                assert url.scheme == "https"
                if match is None:
                    assert (await client.get(url, limit=10)).body == b"here"
                    assert server.header("Host") == [f"registry.test:{port}"]
                else:
                    with pytest.raises(httpx.ConnectError, match=match):
                        await client.get(url, limit=10)
