"""Shows on its machine that a process lives, by a name that the kernel keeps for as long as the process.

It is that of an abstract socket: never another's later, as a process' number is, kept while the process is stopped, and seen
from every PID namespace. It is not seen from another network namespace, or machine: who is there cannot tell.
"""

from __future__ import annotations

import os
import socket
import uuid

from cts_core.worker.container_folder import boot_id

PLACE, NAME = "cts.place", "cts.holder"
"""The labels of a container that say from where its holder can be seen, and the holder's name there."""
_NETWORK = "/proc/self/ns/net"


def place() -> str:
    """From where our names are seen: this run of this machine, and our network namespace; empty where there are none."""
    boot = boot_id()
    try:
        # The number may be another's later, but only once nobody can be there any more.
        return boot and f"{boot}.{os.stat(_NETWORK).st_ino}"
    except OSError:
        return ""


class Holder:
    """This process, as the one that a container goes with. What it holds may be removed by others when it is closed."""

    def __init__(self) -> None:
        self.labels: dict[str, str] = {}
        """Of the container; none where nobody could tell whether we live."""
        self._socket: socket.socket | None = None
        here, name = place(), uuid.uuid4().hex
        if not here:
            return
        try:
            self._socket = _open()
            self._socket.bind(_address(name))
        except OSError:
            self.close()
        else:
            self.labels = {PLACE: here, NAME: name}

    def close(self) -> None:
        """As the end of this process does."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def is_gone(name: str) -> bool:
    """Whether a holder of this place is certainly gone."""
    with _open() as asker:
        try:
            asker.connect(_address(name))
        except ConnectionRefusedError:
            return True
        except OSError:
            # Nothing says that it is not there.
            return False
    return False


def _open() -> socket.socket:
    # Of datagrams: another kind refuses also while nobody listens.
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)


def _address(name: str) -> str:
    return f"\0cts-{name}"
