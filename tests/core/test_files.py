"""Files as models: few things for Python's collector to look at, whose passes hold the event loop."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence

import pytest

from cts_core.model.files import to_input_files, to_outputs
from cts_core.model.job import S3File, S3FileWithDataID
from tests.factories import CRC

COUNT = 1000


@pytest.mark.parametrize("read", [to_outputs, to_input_files])
def test_each_file_is_one_thing_to_the_collector(read: Callable[[object], Sequence[object]]):
    stored = [{"file": f"data/{number}", "crc64nvme": CRC} for number in range(COUNT)]
    gc.collect()
    before = len(gc.get_objects())
    files = read(stored)
    gc.collect()
    assert len(files) == COUNT
    assert len(gc.get_objects()) - before < 1.1 * COUNT


def test_a_changed_copy_leaves_the_others_as_they_are():
    one, other = to_outputs([{"file": "data/a"}, {"file": "data/b"}]) or ()
    changed = one.model_copy(update={"crc64nvme": CRC})
    assert changed == S3File(file="data/a", crc64nvme=CRC)
    assert other.model_dump() == {"file": "data/b", "crc64nvme": None}
    (file,) = to_input_files([{"file": "data/a", "data_id": "a"}])
    assert file == S3FileWithDataID(file="data/a", data_id="a")
