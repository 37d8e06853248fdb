"""Whether an address is one of this machine: no proxy belongs on the way there, and none may see the tokens for it."""

from __future__ import annotations

import ipaddress
import socket

_ANY_PORT = 9


def is_own_machine(host: str | None) -> bool:
    """Return whether a host is this machine, by whichever of its names or addresses. Blocks while the name is looked up."""
    if not host:
        return False
    if host.rstrip(".").lower() in {"localhost", socket.gethostname().lower()}:
        # Known without a lookup, which fails for a laptop without a network.
        return True
    try:
        found = socket.getaddrinfo(host, _ANY_PORT, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        # Where only a proxy can look up names, those of other machines fail here.
        return False
    return any(_is_own(family, address) for family, *_, address in found)


def _is_own(family: int, address: tuple[object, ...]) -> bool:
    ip = ipaddress.ip_address(str(address[0]).partition("%")[0])
    if ip.is_loopback or ip.is_unspecified:
        return True
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            # Connecting for datagrams sends none, and chooses the address to send from: for one of our own, that itself.
            sock.connect(address)
        except OSError:
            return False
        return bool(sock.getsockname()[0] == address[0])
