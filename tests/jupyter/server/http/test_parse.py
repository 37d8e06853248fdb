"""Large bodies are parsed while the event loop is free, and bodies that are too large are refused before parsing."""

from __future__ import annotations

import json

import pytest

from cts_core.errors import RequestValidationError
from cts_jupyter.server.http.parse import MAX_ENTRIES, MAX_PARTS, read_json, read_request
from cts_jupyter.server.http.route import find_route
from cts_jupyter.server.routes.table import ROUTES
from tests.harness.event_loop import monitor_loop
from tests.harness.factories import CRC


def update(outputs: int) -> bytes:
    """Return the update that a worker sends at the end of its container."""
    files = [{"file": f"data/out/{number}", "crc64nvme": CRC} for number in range(outputs)]
    return json.dumps({"time": "2026-03-04T12:00:00Z", "outputs": files}).encode()


@pytest.mark.slow
async def test_event_loop_is_free_while_a_large_body_is_parsed() -> None:
    body = update(MAX_PARTS // 4)
    async with monitor_loop() as monitor:
        in_one_call = await monitor.blocked_share(lambda: json.loads(body))
        assert await monitor.blocked_share(lambda: read_json(body, None)) < in_one_call / 2


@pytest.mark.slow
async def test_event_loop_is_free_while_a_large_update_is_validated() -> None:
    body = update(MAX_ENTRIES)
    path = "/external_exec/jobs/x/container/0/update/complete"
    match = find_route(ROUTES, "PUT", path)
    assert isinstance(match, tuple)
    async with monitor_loop() as monitor:
        in_one_call = await monitor.blocked_share(lambda: json.loads(body))
        ours = await monitor.blocked_share(lambda: read_request(*match, "", body, None))
        assert ours < in_one_call / 3


@pytest.mark.parametrize("piece", ["[]", "{}", "0"])
def test_body_with_too_many_values_is_refused_before_parsing(piece: str) -> None:
    body = f"[{','.join([piece] * (MAX_PARTS + 1))}]".encode()
    with pytest.raises(RequestValidationError) as raised:
        read_json(body, None)
    (detail,) = raised.value.details
    assert detail["type"] == "too_long"
    assert str(MAX_PARTS) in detail["msg"]
