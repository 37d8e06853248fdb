"""Which hosts are this machine."""

from __future__ import annotations

import socket

import pytest

from cts_core import own_machine
from cts_core.own_machine import is_own_machine
from tests.harness.http_proxy import own_address


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "127.0.0.2", "::1", "0.0.0.0", "::"]
)
def test_this_machine_by_its_own_names(host: str):
    assert is_own_machine(host)


def test_this_machine_by_any_address_and_by_a_name_for_it(monkeypatch: pytest.MonkeyPatch):
    address = own_address()
    assert is_own_machine(address)

    def look_up(host: str, *_: object, **__: object) -> list[object]:
        # Several machines may have one name.
        return [
            (socket.AF_INET, socket.SOCK_DGRAM, 0, "", (each, 9))
            for each in ("198.51.100.7", address)
        ]

    monkeypatch.setattr(own_machine.socket, "getaddrinfo", look_up)
    assert is_own_machine("notebooks.example.org")


def test_own_name_needs_no_lookup(monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(own_machine.socket, "getaddrinfo", fail)
    monkeypatch.setattr(own_machine.socket, "gethostname", lambda: "Laptop.local")
    for host in ("laptop.local", "laptop.local.", "LocalHost"):
        assert is_own_machine(host)
    assert not is_own_machine("notebooks.example.org")


@pytest.mark.parametrize(
    "host", ["198.51.100.7", "2001:db8::7", "no-such-host.invalid", "", None, "a" * 70 + ".b"]
)
def test_others(host: str | None):
    assert not is_own_machine(host)
