"""A liveness token: shows other processes of the machine that this one lives.

The token is the name of an abstract socket, which the kernel keeps for as long as the process. Unlike a process id it is never
reused, it stays while the process is stopped, and it is visible from every PID namespace. It is not visible from another
network namespace or machine: processes there cannot tell.
"""

from __future__ import annotations

import os
import socket
import uuid

from cts_core.worker.boot import boot_id

SCOPE_LABEL, SOCKET_LABEL = "cts.place", "cts.holder"
"""The labels of a container with the scope in which its worker's token is visible, and the token's name."""
_NETWORK = "/proc/self/ns/net"


def scope() -> str:
    """Return the scope of our tokens: this boot of the machine and our network namespace; empty where there are none."""
    boot = boot_id()
    try:
        # The inode number may be reused, but only after all processes of that namespace have ended.
        return boot and f"{boot}.{os.stat(_NETWORK).st_ino}"
    except OSError:
        return ""


class LivenessSocket:
    """The liveness token of this process. Once it is closed, other workers may remove the containers labelled with it."""

    def __init__(self) -> None:
        self.labels: dict[str, str] = {}
        """The labels for a container; empty where other processes could not see the token."""
        self._socket: socket.socket | None = None
        own_scope, name = scope(), uuid.uuid4().hex
        if not own_scope:
            return
        try:
            self._socket = _open()
            self._socket.bind(_address(name))
        except OSError:
            self.close()
        else:
            self.labels = {SCOPE_LABEL: own_scope, SOCKET_LABEL: name}

    def close(self) -> None:
        """Release the token, as the end of this process does."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def is_gone(name: str) -> bool:
    """Return whether the process with this token, of our scope, has certainly ended."""
    with _open() as client:
        try:
            client.connect(_address(name))
        except ConnectionRefusedError:
            return True
        except OSError:
            # Any other error does not prove that it has ended.
            return False
    return False


def _open() -> socket.socket:
    # A datagram socket, since connecting to a stream socket that does not listen is refused as well.
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)


def _address(name: str) -> str:
    return f"\0cts-{name}"
