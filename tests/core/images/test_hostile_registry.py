"""A registry is somebody else's program: what it may not make this server do."""

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
from cts_core.images.guarded_http import MAX_REDIRECTS, Web
from cts_core.images.names import parse_image_name
from cts_core.images.registry import HttpRegistry
from tests.services.certificate import self_signed

Reply = tuple[int, Mapping[str, str], bytes]


class Hostile:
    """A server that answers whatever a test wants, and keeps what it was asked."""

    def __init__(self, answer: Callable[[str], Reply], tls: ssl.SSLContext | None = None) -> None:
        self.answer = answer
        self.asked: list[tuple[str, Mapping[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.path, dict(self.headers)))
                status, headers, body = outer.answer(self.path)
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
        return [headers.get(name) for _, headers in self.asked]


@contextmanager
def hostile(answer: Callable[[str], Reply], **kwargs: Any) -> Iterator[Hostile]:
    running = Hostile(answer, **kwargs)
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


async def refused(server: Hostile, match: str, **settings: Any) -> None:
    with pytest.raises(ImageFetchError, match=match):
        await HttpRegistry(ImageSettings(**settings)).look_up(
            parse_image_name(f"{server.host}/a/b:1")
        )


async def test_a_tame_one_is_understood():
    with hostile(lambda path: ok(MANIFEST if "manifests" in path else CONFIG)) as server:
        found = await HttpRegistry(ImageSettings()).look_up(parse_image_name(f"{server.host}/a:1"))
    assert (found.digest, found.entrypoint) == (digest_of(MANIFEST), ["tool"])


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
async def test_odd_manifests(manifest: bytes, match: str):
    with hostile(lambda path: ok(manifest if "manifests" in path else CONFIG)) as server:
        await refused(server, match)


async def test_a_manifest_that_is_not_the_one_asked_for():
    with hostile(lambda _: ok(MANIFEST)) as server:
        name = parse_image_name(f"{server.host}/a@sha256:{'1' * 64}")
        with pytest.raises(ImageFetchError, match="damaged"):
            await HttpRegistry(ImageSettings()).look_up(name)


async def test_an_index_without_end():
    index = {"manifests": [{"digest": "", "platform": {"os": "linux", "architecture": "amd64"}}]}
    index["manifests"][0]["digest"] = digest_of(b"never")  # type: ignore[index]
    with hostile(lambda _: ok(json.dumps(index).encode())) as server:
        await refused(server, "damaged")
        assert len(server.asked) == 2


async def test_a_bomb_in_a_compressed_answer():
    bomb = gzip.compress(b"0" * (1 << 20))
    with hostile(lambda _: (200, {"Content-Encoding": "gzip"}, bomb)) as server:
        await refused(server, "compressed")


@pytest.mark.parametrize(("status", "match"), [(500, "status 500"), (429, "try again later")])
async def test_other_answers(status: int, match: str):
    with hostile(lambda _: (status, {}, b"<html>secret inside</html>")) as server:
        await refused(server, match)


async def test_a_slow_one():
    gate = Event()

    def answer(_: str) -> Reply:
        gate.wait(30)
        return ok(MANIFEST)

    with hostile(answer) as server:
        await refused(server, "no answer within 0.2 seconds", timeout_s=0.2)
        gate.set()


async def test_redirects_without_end():
    with hostile(lambda path: (302, {"Location": f"{path}x"}, b"")) as server:
        await refused(server, f"more than {MAX_REDIRECTS} times")
        assert len(server.asked) == MAX_REDIRECTS + 1


@pytest.mark.parametrize("location", ["http://[", "https://x:99999/", "file:///etc/passwd"])
async def test_redirects_to_nowhere(location: str):
    with hostile(lambda _: (302, {"Location": location}, b"")) as server:
        await refused(
            server, "redirects to what is no URL|other means than plain https|cannot be found"
        )


async def test_the_token_is_for_the_registry_alone():
    token = "the-token"
    with hostile(lambda _: ok(CONFIG)) as storage:

        def answer(path: str) -> Reply:
            if path.startswith("/token"):
                return ok(json.dumps({"access_token": token}).encode())
            if server.asked[-1][1].get("Authorization") != f"Bearer {token}":
                realm = f'Bearer realm="http://{server.host}/token?x=1",service="s s"'
                return 401, {"WWW-Authenticate": realm}, b""
            if "blobs" in path:
                return 307, {"Location": f"http://{storage.host}/signed?key=1"}, b""
            return ok(MANIFEST)

        with hostile(answer) as server:
            name = parse_image_name(f"{server.host}/a/b:1")
            found = await HttpRegistry(ImageSettings()).look_up(name)
    assert found.entrypoint == ["tool"]
    assert [path for path, _ in server.asked] == [
        "/v2/a/b/manifests/1",
        "/token?x=1&scope=repository%3Aa%2Fb%3Apull&service=s+s",
        "/v2/a/b/manifests/1",
        f"/v2/a/b/blobs/{digest_of(CONFIG)}",
    ]
    assert server.header("Authorization")[1] is None or "Bearer" not in str(server.asked[1])
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
    ],
)
async def test_odd_challenges(challenge: str, match: str):
    with hostile(lambda _: (401, {"WWW-Authenticate": challenge}, b"")) as server:
        await refused(server, match)


@pytest.mark.parametrize("answer", [b"{}", b'{"token": "a\\nX: y"}', b'{"token": "\\u00e9"}'])
async def test_odd_tokens(answer: bytes):
    def reply(path: str) -> Reply:
        if path.startswith("/token"):
            return ok(answer)
        return 401, {"WWW-Authenticate": f'Bearer realm="http://{server.host}/token"'}, b""

    with hostile(reply) as server:
        await refused(server, "no public image")


@asynccontextmanager
async def web(registry: str = "registry.example.org", **kwargs: Any) -> AsyncIterator[Web]:
    settings = {"plain_http": [], "private_hosts": [], **kwargs}
    verify = settings.pop("verify", True)
    async with httpx.AsyncClient(trust_env=False, verify=verify) as client:
        yield Web(client, registry, **settings)


@pytest.mark.parametrize(
    "place",
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
async def test_a_public_registry_sends_us_to_the_inside(place: str):
    async with web() as public:
        with pytest.raises(ImageFetchError, match="not on the public Internet"):
            await public.get(httpx.URL(f"https://{place}/latest"), limit=10)
        with pytest.raises(ImageFetchError, match="other means than plain https"):
            await public.get(httpx.URL(f"http://{place}/latest"), limit=10)


async def test_a_name_that_leads_inside(monkeypatch: pytest.MonkeyPatch):
    async def resolve(*_: Any, **__: Any) -> list[Any]:
        return [(0, 0, 0, "", ("203.0.113.1", 443)), (0, 0, 0, "", ("10.0.0.1", 443))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    async with web() as public:
        with pytest.raises(ImageFetchError, match="not on the public Internet"):
            await public.get(httpx.URL("https://inside.example.org/"), limit=10)


async def test_what_the_operator_means_is_reached():
    with hostile(lambda _: ok(b"here")) as server:
        async with web(plain_http=[server.host]) as public:
            url = httpx.URL(f"http://{server.host}/x")
            assert (await public.get(url, limit=10)).body == b"here"


async def test_the_certificate_must_be_the_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async def resolve(host: str, port: int, **_: Any) -> list[Any]:
        # The first address refuses, and the next one is tried.
        return [(0, 0, 0, "", (address, port)) for address in ("127.0.0.2", "127.0.0.1")]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    key, cert = self_signed(tmp_path, "DNS:registry.test")
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(cert, key)
    ours = ssl.create_default_context(cafile=str(cert))
    with hostile(lambda _: ok(b"here"), tls=theirs) as server:
        port = server.server.server_port
        for name, match in (("registry.test", None), ("other.test", "CERTIFICATE_VERIFY_FAILED")):
            async with web(f"{name}:{port}", verify=ours) as named:
                url = named.registry.join("/v2/")
                assert url.scheme == "https"
                if match is None:
                    assert (await named.get(url, limit=10)).body == b"here"
                    assert server.header("Host") == [f"registry.test:{port}"]
                else:
                    with pytest.raises(httpx.ConnectError, match=match):
                        await named.get(url, limit=10)
