"""Checks and hooks of ours for schemathesis, loaded into its process."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

import httpx
import schemathesis

ASKING = json.loads(Path(os.environ["TESTS_OPENAPI_ASKING"]).read_text())
"""The ``token`` that is shown, ``workers`` with the tokens of containers, and the ``secrets``; see ``service.py``."""
SIGNED = ("X-Amz-Signature", "Signature=")
"""Marks of presigned requests, which only workers may get."""
STRUCTURAL = {
    *("missing", "extra_forbidden", "enum", "literal_error", "json_invalid", "string_unicode"),
    *("string_type", "int_type", "float_type", "bool_type", "list_type", "dict_type"),
    *("model_type", "model_attributes_type", "int_parsing", "float_parsing", "bool_parsing"),
    *("int_from_float", "string_too_short", "string_too_long", "string_pattern_mismatch"),
    *("too_short", "too_long"),
}
"""Kinds of validation errors that the schema describes completely."""


@schemathesis.hook
def before_call(ctx: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Send a worker's own token with most of the requests for its container."""
    kwargs["auth"] = _as_worker


def _as_worker(request: Any) -> Any:
    path = request.path_url.partition("?")[0]
    where = path[path.find("/external_exec/") :]
    own = ASKING["workers"].get(where[: where.find("/node/") + len("/node")])
    is_shown = request.headers.get("Authorization") == f"Bearer {ASKING['token']}"
    if own and is_shown and zlib.crc32(repr(request.body).encode()) % 4:
        request.headers["Authorization"] = f"Bearer {own}"
    return request


@schemathesis.hook
def after_call(ctx: Any, case: Any, response: Any) -> None:
    """Activate a site again, because its jobs would not proceed otherwise."""
    if case.operation.path == "/admin/sites/{site}/active" and response.status_code == 204:
        headers = {"Authorization": response.request.headers["Authorization"]}
        httpx.put(response.request.url, headers=headers, timeout=60)


@schemathesis.check
def faults_are_described(ctx: Any, response: Any, case: Any) -> None:
    """Check that no request that conforms to the description is refused for its structure.

    It may be refused for reasons that no schema expresses: two fields together, the length of a duration, a bucket.
    """
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if response.status_code != 400 or case.operation.method.upper() != response.request.method:
        return
    error = response.json()["error"]
    for detail in error.get("request_validation_detail", ()):
        if detail["type"] in STRUCTURAL and not _is_of_a_choice(detail["loc"]):
            raise AssertionError(f"described as valid, but refused: {detail}")


def _is_of_a_choice(loc: list[str | int]) -> bool:
    """Return whether pydantic reports a fault of one alternative, which is none if another was meant."""
    names = [part for part in loc[1:] if isinstance(part, str)]
    return any(name == "str" or not name.isidentifier() or name[0].isupper() for name in names)


@schemathesis.check
def errors_are_envelopes(ctx: Any, response: Any, case: Any) -> None:
    """Check that every error has the contract's form with the request's id, and that a 5xx has no appcode."""
    assert response.headers["x-request-id"]
    if response.status_code < 400 or response.request.method == "HEAD":
        return
    error = response.json()["error"]
    assert error["httpcode"] == response.status_code
    assert [error["request_id"]] == response.headers["x-request-id"]
    assert (error.get("appcode") is None) == (error.get("apperror") is None)
    assert response.status_code < 500 or "appcode" not in error


@schemathesis.check
def nothing_is_given_away(ctx: Any, response: Any, case: Any) -> None:
    """Check that no response contains a token or a secret, and that only workers get presigned requests."""
    text = f"{response.headers}\n{response.content.decode(errors='replace')}"
    assert not [secret for secret in ASKING["secrets"] if secret in text]
    if not case.operation.path.endswith("/node/objects"):
        assert not [sign for sign in SIGNED if sign in text]
