"""How kernels reach their server, whatever it demands of others."""

from __future__ import annotations

import asyncio
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from cts_jupyter.client import CTSClient
from cts_jupyter.client.transport import CTSConnectionError
from cts_jupyter.discovery import Connection, find_connection
from tests.harness.server import ServerHarness, running_server
from tests.services.server import ServerProcess


def whoami(connection: Connection) -> str:
    with CTSClient.of(connection) as client:
        return client.whoami().user


def listens(way: str, key: Path, certificate: Path) -> dict[str, Any]:
    """Return the configuration of a server that listens in this way."""
    own = {"certfile": str(certificate), "keyfile": str(key)}
    return {
        "plain": {},
        "certificate": own,
        "certificates of clients": {**own, "client_ca": str(certificate)},
        "ssl_options": {"ssl_options": own},
        "IPv6": {"ip": "::"},
    }[way]


@pytest.mark.parametrize(
    "way", ["plain", "certificate", "certificates of clients", "ssl_options", "IPv6"]
)
async def test_kernels_reach_their_server(
    isolated: Path, certificate: tuple[Path, Path], way: str
) -> None:
    config = {"ServerApp": listens(way, *certificate)}
    async with running_server(isolated, {}, config) as server:
        found = find_connection()
        port_and_path = server.root.rpartition(":")[2]
        assert found.url.endswith(f":{port_and_path}"), "it works elsewhere, too"
        assert await asyncio.to_thread(whoami, found) == "ana"
        folder = found.socket.parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not folder.exists()


@pytest.mark.usefixtures("no_sockets")
@pytest.mark.parametrize("way", ["plain", "certificate", "ssl_options", "IPv6"])
async def test_kernels_reach_a_server_without_sockets_by_its_port(
    isolated: Path, certificate: tuple[Path, Path], way: str
) -> None:
    config = {"ServerApp": listens(way, *certificate)}
    async with running_server(isolated, {}, config):
        found = find_connection()
        assert found.socket is None
        assert await asyncio.to_thread(whoami, found) == "ana"


@pytest.mark.usefixtures("no_sockets")
async def test_log_says_why_kernels_do_not_reach_their_server(
    isolated: Path, certificate: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    config = {"ServerApp": listens("certificates of clients", *certificate)}
    async with running_server(isolated, {}, config):
        with pytest.raises(CTSConnectionError):
            await asyncio.to_thread(whoami, find_connection())
    log = capsys.readouterr().err
    assert "no Unix socket for the kernels of this server (not supported here)" in log


@pytest.mark.slow
def test_kernels_reach_a_server_that_listens_at_no_port(isolated: Path) -> None:
    socket = isolated / "jupyter.sock"
    server = ServerProcess(
        [sys.executable, "-m", "jupyter", "server", f"--sock={socket}", "--allow-root"],
        isolated,
        lambda: bool(list((isolated / "jupyter-runtime_dir").glob("cts-server-*"))),
        {"CTS_PRESET": "embedded", "CTS_HOME": str(isolated / "home"), "CTS_OWNER": "ana"},
    )
    server.start()
    try:
        found = find_connection()
        assert found.url == f"http+unix://{str(socket).replace('/', '%2F')}/cts"
        assert whoami(found) == "ana"
    finally:
        server.stop()


async def test_kernel_whose_socket_is_gone_takes_the_port(server: ServerHarness) -> None:
    found = find_connection()
    found.socket.unlink()
    assert find_connection().url == server.root
    assert await asyncio.to_thread(whoami, find_connection()) == "ana"
