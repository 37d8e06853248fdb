"""The proxy reaches URLs below the upstream's path only."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cts_core.errors import NotFoundError
from cts_jupyter.server.proxy.address import UpstreamAddress

ADDRESS = UpstreamAddress.parse("https://hub.example.org/apis/cts")
ROOT = "/user/ana/cts"


def test_parts_of_the_url() -> None:
    assert (ADDRESS.is_tls, ADDRESS.host, ADDRESS.port) == (True, "hub.example.org", 443)
    assert (ADDRESS.host_header, ADDRESS.path) == ("hub.example.org", "/apis/cts")
    plain = UpstreamAddress.parse("http://[::1]:5000")
    assert (plain.is_tls, plain.host, plain.port) == (False, "::1", 5000)
    assert (plain.host_header, plain.path) == ("[::1]:5000", "")


@pytest.mark.parametrize(
    ("rest", "query", "target"),
    [
        ("", "", "/apis/cts/"),
        ("/", "", "/apis/cts/"),
        ("/jobs", "", "/apis/cts/jobs"),
        ("/jobs/", "limit=1", "/apis/cts/jobs/?limit=1"),
        # Slashes are the service's to forgive.
        ("//whoami", "", "/apis/cts//whoami"),
        ("//evil.example/x", "", "/apis/cts//evil.example/x"),
        ("/images/ghcr.io%2Fa%2Fb:1.0@sha256:0f", "", "/apis/cts/images/ghcr.io%2Fa%2Fb:1.0@sha256:0f"),
        ("/images/a..b/...", "", "/apis/cts/images/a..b/..."),
        ("/http://evil.example/", "", "/apis/cts/http://evil.example/"),
        ("/x%0d%0aHost:%20evil", "", "/apis/cts/x%0d%0aHost:%20evil"),
        ("/@evil.example", "", "/apis/cts/@evil.example"),
        ("/a b#c\\d\xe9\x00", "", "/apis/cts/a%20b%23c%5Cd%E9%00"),
        # In a query nothing climbs.
        ("/files", "prefix=a/../b&x=%2e%2e", "/apis/cts/files?prefix=a/../b&x=%2e%2e"),
        ("/files", "a=\r\nb", "/apis/cts/files?a=%0D%0Ab"),
    ],
)  # fmt: skip
def test_request_target(rest: str, query: str, target: str) -> None:
    assert ADDRESS.target(rest, query) == target


@pytest.mark.parametrize(
    "rest",
    [
        "/..",
        "/../admin",
        "/jobs/../../admin",
        "/.",
        "/./jobs",
        "/%2e%2e/admin",
        "/.%2E/admin",
        "/jobs/%2e%2e%2f%2e%2e%2fadmin",
        "/..%2fadmin",
        "/..%5cadmin",
        "/..\\admin",
        "/%252e%252e/admin",
        "/%25252e%25252e/admin",
        "/..;/admin",
        "/..;x=y/admin",
        "//../admin",
        "/%2e",
        "/%" + "25" * 9 + "2e",
    ],
)
def test_path_traversal_is_refused(rest: str) -> None:
    with pytest.raises(NotFoundError):
        ADDRESS.target(rest)


PIECES = st.sampled_from(
    ["/", "//", ".", "..", "%2e", "%2E", "%2f", "%5c", "\\", "%25", "a", ";", "x=1", "%00", "\xff", "%c0%ae"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=12).map("".join))
def test_no_decoding_of_a_target_leaves_the_upstreams_path(rest: str) -> None:
    try:
        target = ADDRESS.target("/" + rest)
    except NotFoundError:
        return
    assert target.isascii()
    assert target.isprintable()
    assert " " not in target
    for _ in range(4):
        assert target.startswith("/apis/cts/")
        assert not {".", ".."} & set(target.replace("\\", "/").split("/"))
        target = unquote(target)


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("token=secret", ""),
        ("token=secret&limit=3", "?limit=3"),
        ("limit=3&%74oken=secret", "?limit=3"),
        ("tok%65n=secret&_xsrf=secret", ""),
        ("a=1&&b=", "?a=1&&b="),
        ("tokens=3&x_token=4&token", "?tokens=3&x_token=4"),
    ],
)
def test_jupyters_secrets_are_not_forwarded(query: str, kept: str) -> None:
    assert ADDRESS.target("/jobs", query) == f"/apis/cts/jobs{kept}"


@pytest.mark.parametrize(
    ("location", "local"),
    [
        ("https://hub.example.org/apis/cts/jobs/?limit=1", f"{ROOT}/jobs/?limit=1"),
        # As a service says it that stands behind a proxy.
        ("http://hub.example.org:8080/apis/cts/jobs/", f"{ROOT}/jobs/"),
        ("/apis/cts/sites/", f"{ROOT}/sites/"),
        ("other", f"{ROOT}/other"),
        ("", f"{ROOT}/jobs"),
        ("/apis/cts", ROOT),
        ("https://evil.example/apis/cts/jobs", None),
        ("//evil.example/apis/cts/jobs", None),
        ("https://hub.example.org@evil.example/apis/cts/jobs", None),
        ("https://hub.example.org.evil.example/apis/cts/", None),
        ("/apis/ctsx/jobs", None),
        ("/login", None),
        ("../../login", None),
        ("/apis/cts/../login", None),
        ("/apis/cts/%2e%2e/login", None),
        ("javascript:alert(1)", None),
        ("https://[x/", None),
    ],
)
def test_redirects_out_of_the_upstream_are_refused(location: str, local: str | None) -> None:
    assert ADDRESS.to_local(location, "/apis/cts/jobs", ROOT) == local
