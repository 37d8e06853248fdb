"""CTS in the servers of a real hub's users."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from cts_jupyter.client import CTSClient, event_stream
from tests.harness.hub_jobs import client_of, register, submit
from tests.harness.remote_kernel import run_in_kernel
from tests.services.jupyterhub import JupyterHub, UserServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(scope="module")
def ana(jupyterhub: JupyterHub) -> UserServer:
    """The server of a user who runs jobs in it."""
    server = jupyterhub.start_server("ana", CTS_PRESET="embedded")
    register(server)
    return server


@pytest.fixture
def job(ana: UserServer, tmp_path: Path) -> Iterator[str]:
    """A job of ana's that ends with the test."""
    with client_of(ana) as client:
        yield submit(client, tmp_path)
    (tmp_path / "end").touch()


def test_kernel_page_and_token_are_one_person(
    jupyterhub: JupyterHub, ana: UserServer, job: str
) -> None:
    shown, listed = run_in_kernel(
        ana.url, ana.headers, "%load_ext cts_jupyter\n%cts whoami", "%cts ls"
    )
    assert "ana" in shown
    assert job[:8] in listed
    with jupyterhub.browser_of(ana) as browser:
        assert browser.get("/cts/whoami").json()["user"] == "ana"
        assert browser.get(f"/cts/jobs/{job}/status").is_success


def test_token_without_access_to_the_server_is_refused(
    jupyterhub: JupyterHub, ana: UserServer
) -> None:
    token = jupyterhub.user_token("ana", "read:users!user=ana")
    refused = httpx.get(f"{ana.cts}/whoami", headers={"Authorization": f"Bearer {token}"})
    assert (refused.status_code, refused.json()["error"]["appcode"]) == (401, 10020)


def test_page_of_a_server_without_the_hubs_extension(jupyterhub: JupyterHub) -> None:
    server = jupyterhub.start_server(
        "cara", CTS_PRESET="embedded", JUPYTERHUB_SINGLEUSER_EXTENSION="0"
    )
    by_page = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}
    with jupyterhub.browser_of(server) as browser:
        (token,) = (
            c.value for c in browser.cookies.jar if c.path == "/user/cara/" and c.name == "_xsrf"
        )
        # As the card asks, with the header and, where a script can send none, in the query.
        asked = browser.get("/cts/whoami", headers={**by_page, "X-XSRFToken": token})
        assert asked.json()["user"] == "cara"
        with browser.stream(
            "GET", "/cts/events", params={"_xsrf": token}, headers=by_page
        ) as stream:
            assert stream.status_code == httpx.codes.OK
        unasked = browser.get("/cts/whoami", headers=by_page)
        assert unasked.status_code == httpx.codes.UNAUTHORIZED


def test_kernel_of_a_server_that_wants_certificates(internal_ssl_hub: JupyterHub) -> None:
    server = internal_ssl_hub.start_server("dan", CTS_PRESET="embedded")
    (shown,) = run_in_kernel(server.url, server.headers, "%load_ext cts_jupyter\n%cts whoami")
    assert "dan" in shown
    # By the address that it listens at, it takes nobody without one.
    url = internal_ssl_hub.listens_at(server)
    assert url.startswith("https://")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{url}/cts/whoami", verify=False)


@pytest.mark.usefixtures("ana", "job")
def test_live_job_keeps_the_culler_away(jupyterhub: JupyterHub, tmp_path: Path) -> None:
    jupyterhub.start_server("ana", "idle", CTS_PRESET="embedded", CTS_HOME=str(tmp_path / "idle"))
    # Several times what lies between two reports of activity, on a busy machine too.
    culler = jupyterhub.culler(idle_seconds=25)
    culler.start()
    try:
        wait_until(lambda: "idle" not in jupyterhub.servers("ana"))
        assert "" in jupyterhub.servers("ana")
    finally:
        culler.stop()


def test_server_outlives_the_hub(jupyterhub: JupyterHub, ana: UserServer) -> None:
    def page(token: str) -> httpx.Response:
        return httpx.get(f"{ana.cts}/whoami", headers={"Authorization": f"Bearer {token}"})

    token = jupyterhub.user_token("ana", "access:servers!user=ana")
    jupyterhub.stop_hub()
    try:
        with CTSClient.of(jupyterhub.kernels_way(ana)) as kernel:
            assert kernel.whoami().user == "ana"
        assert page(token).status_code == httpx.codes.SERVICE_UNAVAILABLE
    finally:
        jupyterhub.start()
    assert page(token).json()["user"] == "ana"


def test_stream_of_a_stopped_server_is_opened_anew(
    jupyterhub: JupyterHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # A little longer than the server's pings are apart.
    monkeypatch.setattr(event_stream, "SILENCE_SECONDS", 17.0)
    server = jupyterhub.start_server("bob", CTS_PRESET="embedded")
    with client_of(server) as client, contextlib.closing(client.events()) as stream:
        begun = threading.Event()
        reading = threading.Thread(target=lambda: next(stream) and begun.set())
        reading.start()
        wait_until(lambda: stream._cursor is not None)
        jupyterhub.stop_server("bob")
        # The proxy mostly keeps the stream open, and later answers itself.
        wait_until(
            lambda: stream._response is None or any("for 17 s" in text for text in caplog.messages)
        )
        register(jupyterhub.start_server("bob", CTS_PRESET="embedded"))
        submit(client, tmp_path)
        assert begun.wait(60)
        (tmp_path / "end").touch()
        reading.join()
