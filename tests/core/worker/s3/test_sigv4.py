"""Signatures do not depend on what other threads sign."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from cts_core.worker.s3 import sigv4
from cts_core.worker.s3.sigv4 import Signer

TIMES = ("20261231T235959Z", "20270101T000000Z")
"""The day at which another day's key is to be used."""


def made() -> Signer:
    return Signer("key", "secret", "us-east-1")


def test_threads_of_different_days_sign_as_each_would_alone(monkeypatch) -> None:
    own = threading.local()
    clock = SimpleNamespace(strftime=lambda *_: own.now, gmtime=lambda: None)
    monkeypatch.setattr(sigv4, "time", clock)

    def sign(signer: Signer, now: str) -> str:
        own.now = now
        return signer.sign("GET", "host", "/data/a", "", {})["authorization"]

    expected = {now: sign(made(), now) for now in TIMES}
    shared = made()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            signed = list(pool.map(lambda now: (now, sign(shared, now)), TIMES * 1500))
    finally:
        sys.setswitchinterval(interval)
    assert {signature for now, signature in signed if signature != expected[now]} == set()


@pytest.mark.parametrize("now", TIMES)
def test_key_is_valid_for_one_day(monkeypatch, now: str) -> None:
    monkeypatch.setattr(
        sigv4, "time", SimpleNamespace(strftime=lambda *_: now, gmtime=lambda: None)
    )
    signed = made().sign("GET", "host", "/data/a", "", {})
    assert f"Credential=key/{now[:8]}/us-east-1/s3/aws4_request" in signed["authorization"]
    assert signed["x-amz-date"] == now
