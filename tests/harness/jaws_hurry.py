"""Has everything that a site of JAWS waits for come soon, in tests and in the servers that they start."""

from __future__ import annotations

import pytest

from cts_core.backoff import Backoff
from cts_core.sites.jaws import credentials, facility, follow, look, refdata, site


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have everything that is waited for come soon."""
    monkeypatch.setattr(follow, "ASK_SECONDS", (0.2,))
    monkeypatch.setattr(site, "RETRY", Backoff(first=0.2, longest=1.0))
    monkeypatch.setattr(refdata, "RETRY", Backoff(first=0.2, longest=1.0))
    monkeypatch.setattr(refdata, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(credentials, "RETRY", Backoff(first=0.2, longest=1.0))
    monkeypatch.setattr(look, "REST_SECONDS", 0.2)
    monkeypatch.setattr(facility, "_PAUSES", (0.2,))
    monkeypatch.setattr(facility, "STATUS_SECONDS", 0.3)
    monkeypatch.setattr(facility, "SITE_SECONDS", 0.3)
    defaults = facility.Facility.__init__.__kwdefaults__
    monkeypatch.setitem(defaults, "task_seconds", 0.05)
    monkeypatch.setitem(defaults, "look_seconds", 0.3)
