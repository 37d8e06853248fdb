"""The columns of tables."""

from __future__ import annotations

from cts_jupyter.client.models import Container, JobOutput, S3File
from cts_jupyter.notebook.columns import container_table, output_table


def container(number: int, **changes) -> Container:
    inputs = [S3File(file=f"data/in/{number}-{part}.fna") for part in "ab"]
    fields = {"number": number, "state": "complete", "exit_code": 0, "inputs": inputs}
    return Container(**{**fields, "transition_times": [], **changes})


def test_failed_containers_of_many_are_shown_first_with_their_inputs():
    failures = {150: {"exit_code": 4}, 199: {"error": "It was stopped.\nTwice."}}
    table = container_table(
        [
            container(number, **({"state": "error", **failures[number]} if number in failures else {}))
            for number in range(200)
        ]
    )  # fmt: skip
    assert [shown.number for shown in table[:3]] == [150, 199, 0]
    lines = repr(table).splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [["150", "Failed"], ["199", "Failed"]]
    assert "150-a.fna and 1 more" in lines[1]
    assert lines[3] == "    error: It was stopped. (and 1 line more)"
    assert "140 more" in lines[-1]
    frame = table.to_frame()
    assert frame["inputs"][1] == ["data/in/199-a.fna", "data/in/199-b.fna"]
    assert (len(frame), frame["error"][1]) == (200, "It was stopped.\nTwice.")


def test_outputs_name_the_container_that_wrote_them_if_the_service_does():
    fields = {"crc64nvme": "AAAAAAAAAAA=", "job_id": "j"}
    table = output_table([JobOutput(file=f"data/out/{n}", container=n, **fields) for n in range(2)])
    assert [line.split()[:2] for line in repr(table).splitlines()] == [
        ["file", "container"], ["data/out/0", "0"], ["data/out/1", "1"],
    ]  # fmt: skip
    assert list(table.to_frame()["container"]) == [0, 1]
    older = output_table([JobOutput(file="data/out/o", **fields)])
    assert repr(older).splitlines()[0].split() == ["file", "CRC64/NVME"]
