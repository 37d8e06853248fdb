"""The framing of the stream of events. Reconnecting and resuming: test_client.py."""

from __future__ import annotations

import httpx

from cts_jupyter.client.event_stream import EventStream
from cts_jupyter.client.transport import Transport


def read(text: str) -> tuple[list[str | None], str | None]:
    """Return the states of the events in a stream, None for other frames, and the cursor after them."""
    transport = Transport("http://127.0.0.1:9/cts", lambda: None)
    stream = EventStream(transport, "events")
    response = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, text=text)
    states = [event and event.state for event in stream._read(response)]
    transport.close()
    return states, stream._cursor


def test_lines_of_data_are_joined_by_newlines():
    event = 'event: transition\ndata: {"job_id": "x",\ndata: "state": "complete"}\nid: 7\n\n'
    assert read(event) == (["complete"], "7")


def test_event_that_breaks_off_is_not_resumed_after():
    whole = 'id: 1\nevent: transition\ndata: {"job_id": "x", "state": "created"}\n\n'
    assert read(whole + "id: 2\nevent: transition\nda") == (["created"], "1")


def test_unknown_events_and_comments_are_signs_of_life():
    frames = "id: 1\nevent: begin\ndata: {}\n\n: comment\n\nevent: weather\ndata: {}\n\nevent: progress\ndata: [\n\n"
    states, cursor = read(frames)
    assert set(states) == {None}
    assert cursor == "1"


def test_end_of_the_stream_ends_the_iteration():
    assert read("event: end\ndata: {}\n\nevent: progress\ndata: {}\n\n") == ([], None)
