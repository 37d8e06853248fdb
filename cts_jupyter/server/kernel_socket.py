"""The Unix socket at which a Jupyter server's own kernels reach it, however it listens to everybody else.

Others may have to come by TLS with a certificate that the server accepts, to another address, or by a socket of Jupyter's.
This socket is in a folder that only the server's user can enter, so it needs none of that.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from jupyter_server.serverapp import ServerApp
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_unix_socket


class KernelSocket:
    """A listener of the Jupyter server. Raises OSError where the system has no such sockets."""

    def __init__(self, serverapp: ServerApp, *, idle_seconds: float) -> None:
        # Not Jupyter's runtime folder: it may be in a network's file system, and its path longer than a socket's may be.
        self.path = Path(tempfile.mkdtemp(prefix="cts-")) / "socket"
        try:
            socket = bind_unix_socket(str(self.path))
        except OSError:
            self._remove()
            raise
        self._server = HTTPServer(
            serverapp.web_app,
            max_body_size=serverapp.max_body_size,
            max_buffer_size=serverapp.max_buffer_size,
        )
        bound_idle_connections(self._server, idle_seconds)
        self._server.add_socket(socket)

    def stop(self) -> None:
        """Stop listening; requests under way go on."""
        self._server.stop()
        self._remove()

    async def close(self) -> None:
        """Stop listening, and close every connection."""
        self.stop()
        await self._server.close_all_connections()

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
            self.path.parent.rmdir()


def bound_idle_connections(server: HTTPServer, seconds: float) -> None:
    """Have connections closed on which no whole head of a request has come for so long; it is read anew for each head."""
    server.conn_params.header_timeout = seconds
