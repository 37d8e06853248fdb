"""The sentences for failures of container runtimes."""

from __future__ import annotations

import pytest

from cts_core.worker.runtimes.errors import is_temporary, pull_failure, start_failure
from tests.harness.worker import IMAGE


@pytest.mark.parametrize(
    ("message", "expected", "temporary"),
    [
        ("write /x/layer.tar: no space left on device", "This machine has no room", False),
        ("manifest for a@sha256:0 not found: manifest unknown", "not in its registry", False),
        ("dial tcp 127.0.0.1:1: connect: connection refused", "cannot be reached", True),
        ("lookup registry.test: no such host", "cannot be reached", True),
        ("Get https://x/v2/: net/http: TLS handshake timeout", "cannot be reached", True),
        ("received unexpected HTTP status: 503 Service Unavailable", "cannot be reached", True),
        ("Error: copying blob: unexpected EOF", "cannot be reached", True),
        ("Get https://x/v2/: http: server closed idle connection", "cannot be reached", True),
        ("read tcp 127.0.0.1:1: use of closed network connection", "cannot be reached", True),
        ("net/http: HTTP/1.x transport connection broken", "cannot be reached", True),
        ("http: can't write HTTP request on broken connection", "cannot be reached", True),
        ("http2: client connection lost", "cannot be reached", True),
        ("http2: server sent GOAWAY and closed the connection", "cannot be reached", True),
        ("stream error: stream ID 3; INTERNAL_ERROR", "cannot be reached", True),
        ("lookup registry.test: Temporary failure in name resolution", "cannot be reached", True),
        ("dial tcp 192.0.2.1:443: connect: host is down", "cannot be reached", True),
        ("pull access denied for a, repository does not exist", "not in its registry", False),
        ("unauthorized: authentication required", "no login there", False),
        ("failed to register layer: exit status 1: unexpected EOF", "damaged", False),
        ("unpacking layer sha256:0: read next entry: unexpected EOF", "damaged", False),
        ("no matching manifest for linux/amd64 in the manifest list entries", "damaged", False),
        ("something else", "could not be fetched. (something else)", False),
    ],
)
def test_pull_failures(message: str, expected: str, *, temporary: bool) -> None:
    sentence = pull_failure(IMAGE, message)
    assert expected in sentence
    assert message in sentence
    assert is_temporary(message) is temporary


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ('runc: exec: "/bin/tool": stat /bin/tool: no such file or directory', "has no program"),
        ("stat /bin/tool: no such file or directory", "has no program"),
        ('exec: "/bin/tool": permission denied', "cannot be executed"),
        ("exec /bin/tool: exec format error", "cannot be executed"),
        ("mkdir /var/lib/x: no space left on device", "The disk"),
        ("statfs /home/job/3/in: no such file or directory", "could not be started"),
        ("runc: error setting rlimit: permission denied", "could not be started"),
    ],
)
def test_start_failures(message: str, expected: str) -> None:
    assert expected in start_failure("/bin/tool", message)
