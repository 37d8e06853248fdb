"""The simulator of NERSC refuses what NERSC would refuse."""

from __future__ import annotations

import time
from typing import Any

import httpx
import jwt
import pytest

from tests.simulators.sfapi import NERSC

pytestmark = pytest.mark.slow
KIND = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def _form(nersc: NERSC, **changes: Any) -> dict[str, str]:
    """Return a request for a token; changes are of the claims of its JWT."""
    claims = {
        "iss": nersc.client_id,
        "sub": nersc.client_id,
        "aud": nersc.token_url,
        "exp": int(time.time()) + 60,
        "jti": "1",
        **changes,
    }
    assertion = jwt.encode(claims, nersc.pem(), algorithm="RS256")
    return {
        "grant_type": "client_credentials",
        "client_assertion_type": KIND,
        "client_assertion": assertion,
    }


def test_token_is_for_one_signed_request(nersc: NERSC):
    form = _form(nersc)
    token = httpx.post(nersc.token_url, data=form).json()["access_token"]
    assert httpx.post(nersc.token_url, data=form).status_code == 401, "its jti was used"
    headers = {"Authorization": f"Bearer {token}"}
    assert httpx.get(f"{nersc.api_url}account/", headers=headers).json()["name"] == nersc.user


@pytest.mark.parametrize(
    "change", [{"aud": "x"}, {"exp": 1}, {"iss": "x"}, {"sub": "x"}, {"jti": None}], ids=str
)
def test_request_with_other_claims_is_refused(nersc: NERSC, change: dict[str, Any]):
    assert httpx.post(nersc.token_url, data=_form(nersc, **change)).status_code == 401


def test_request_that_another_key_signed_is_refused(nersc: NERSC):
    form = _form(nersc)
    nersc.renew_client(nersc.client_id)
    assert httpx.post(nersc.token_url, data=form).status_code == 401


@pytest.mark.parametrize("token", ["", "Bearer x", "token"])
def test_call_without_a_token_is_refused(nersc: NERSC, token: str):
    url = f"{nersc.api_url}account/"
    assert httpx.get(url, headers={"Authorization": token}).status_code == 401
