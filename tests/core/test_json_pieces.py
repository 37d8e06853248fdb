"""JSON that is written in pieces."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from cts_core.json_pieces import pieces_of_json
from cts_core.model.job import S3File
from cts_core.model.record import ContainerRecord
from cts_core.states import JobState
from tests.harness.factories import CRC


class Outputs(BaseModel):
    """An answer with a list of models, with lists in them."""

    containers: list[ContainerRecord]
    warnings: list[str] | None = None


def container(outputs: int) -> ContainerRecord:
    files = [
        S3File(file=f'data/{n}\u00e9"', crc64nvme=CRC if n % 2 else None) for n in range(outputs)
    ]
    return ContainerRecord(
        id="j", sub_id=0, state=JobState.COMPLETE, transition_times=[], outputs=files
    )


@pytest.mark.parametrize("nulls", [True, False])
@pytest.mark.parametrize("containers", [0, 1, 3, 200, 201, 1000])
@pytest.mark.parametrize("number", [0, 1, 201])
def test_json_in_pieces_is_that_of_the_model(*, nulls: bool, containers: int, number: int):
    record = container(number)
    answer = Outputs(containers=[record] * containers)
    written = b"".join(pieces_of_json(answer, nulls=nulls))
    assert written == answer.model_dump_json(exclude_none=not nulls).encode()


@pytest.mark.parametrize("containers", [1, 90])
def test_long_lists_are_written_in_short_pieces(containers: int):
    record = container(20_000 // containers)
    assert (
        max(map(len, pieces_of_json(Outputs(containers=[record] * containers), nulls=True)))
        < 20_000
    )
