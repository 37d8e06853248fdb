"""The listener parses messages from any sender. What it receives from a broker is in ``test_topic.py``."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cts_core.events.kafka.listener import parse_message
from tests.harness.factories import make_event


@given(st.one_of(st.none(), st.binary(max_size=300), st.text().map(str.encode)))
def test_any_bytes_can_be_parsed(value):
    assert parse_message(value) is None or b"job_id" in (value or b"")


_json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@pytest.mark.slow
@given(st.fixed_dictionaries({"job_id": _json, "trans_id": _json}), st.booleans())
def test_only_plain_ids_are_parsed(message, is_utf16):
    value = json.dumps(message).encode("utf-16" if is_utf16 else "utf-8")
    found = parse_message(value)
    if found is not None:
        assert found == (message["job_id"], message["trans_id"])
        assert all(id_.isascii() and 1 <= len(id_) <= 64 for id_ in found)


def test_published_messages_are_parsed():
    event = make_event()
    assert parse_message(json.dumps(event.message()).encode()) == (event.job_id, event.trans_id)
