"""Unvalidated file models: few objects for Python's garbage collector, whose passes block the event loop."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Sequence

import pytest

from cts_core.model.job import S3File, S3FileWithDataID
from cts_core.model.record import Transition
from cts_core.model.unvalidated import (
    construct,
    read_input_files,
    read_outputs,
    to_input_files,
    to_outputs,
)
from tests.harness.event_loop import monitor_loop
from tests.harness.factories import CRC, make_transition

COUNT = 1000


@pytest.mark.parametrize("read", [to_outputs, to_input_files])
def test_each_file_is_one_object_to_the_garbage_collector(
    read: Callable[[object], Sequence[object]],
):
    stored = [{"file": f"data/{number}", "crc64nvme": CRC} for number in range(COUNT)]
    gc.collect()
    before = len(gc.get_objects())
    files = read(stored)
    gc.collect()
    assert len(files) == COUNT
    assert len(gc.get_objects()) - before < 1.1 * COUNT


def test_json_becomes_the_same_models():
    stored = [{"file": "data/a", "crc64nvme": CRC, "data_id": "a"}, {"file": "data/b"}]
    assert read_input_files(json.dumps(stored)) == to_input_files(stored)
    assert read_input_files(json.dumps(["data/a"])) == ["data/a"]
    assert read_outputs(json.dumps(stored)) == to_outputs(stored)
    assert read_outputs("[]") == []
    assert read_outputs(None) is None


@pytest.mark.slow
async def test_event_loop_is_not_blocked_while_files_are_read():
    text = json.dumps(
        [{"file": f"data/out/{number}", "crc64nvme": CRC} for number in range(200_000)]
    )
    async with monitor_loop() as monitor:
        in_one_call = await monitor.blocked_share(lambda: json.loads(text))
        assert await monitor.blocked_share(lambda: read_outputs(text)) < in_one_call / 2


def test_changed_copy_does_not_change_others():
    one, other = to_outputs([{"file": "data/a"}, {"file": "data/b"}]) or ()
    changed = one.model_copy(update={"crc64nvme": CRC})
    assert changed == S3File(file="data/a", crc64nvme=CRC)
    assert other.model_dump() == {"file": "data/b", "crc64nvme": None}
    (file,) = to_input_files([{"file": "data/a", "data_id": "a"}])
    assert file == S3FileWithDataID(file="data/a", data_id="a")


def test_constructed_model_is_the_validated_one_in_any_order_of_fields():
    validated = make_transition()
    constructed = construct(Transition, **dict(reversed(list(dict(validated).items()))))
    assert constructed == validated
    assert constructed.model_fields_set == set(Transition.model_fields)
    assert constructed.model_dump_json() == validated.model_dump_json()
    assert constructed.model_copy(update={"trans_id": "other"}).trans_id == "other"


def test_no_field_is_left_out():
    with pytest.raises(KeyError, match="crc64nvme"):
        construct(S3File, file="data/a")
