"""Outcomes of jobs, derived from their containers."""

from datetime import UTC, datetime

import pytest

from cts_core.engine import outcome
from cts_core.model.job import S3File
from cts_core.model.record import ContainerRecord, ContainerTransition
from cts_core.states import JobState
from cts_core.worker.checksum import crc64nvme_text
from tests.harness.factories import make_job_record

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CRC = "jC4Zk1cFQ8U="


def container(number: int, state: JobState = JobState.COMPLETE, **fields) -> ContainerRecord:
    return ContainerRecord(
        id="job",
        sub_id=number,
        state=state,
        transition_times=[ContainerTransition(state=state, time=NOW)],
        **fields,
    )


def outputs(*paths: str) -> list[S3File]:
    return [S3File(file=path, crc64nvme=CRC) for path in paths]


def test_usage_sums_cpu_and_takes_the_largest_memory():
    job = make_job_record(cpus=2)
    result = outcome.usage(
        job,
        [
            container(
                0, cpu_seconds=1800.0, wall_seconds=1000.0, max_memory=5, max_anonymous_memory=4
            ),
            container(
                1, cpu_seconds=1800.0, wall_seconds=1000.0, max_memory=7, max_anonymous_memory=2
            ),
        ],
    )
    assert result.cpu_hours == 1.0
    assert result.cpu_factor == pytest.approx(3600 / (2000 * 2))
    assert (result.max_memory, result.max_anonymous_memory) == (7, 4)


def test_unmeasured_usage_stays_unset():
    result = outcome.usage(make_job_record(), [container(0)])
    assert (result.cpu_hours, result.cpu_factor, result.max_memory) == (None, None, None)


def test_overwritten_path_is_one_output_with_the_stored_checksum():
    containers = [
        container(0, outputs=outputs("data/out/a", "data/out/same")),
        container(1, outputs=outputs("data/out/same")),
    ]
    assert outcome.overwritten(containers) == ["data/out/same"]
    result = outcome.completed(make_job_record(), containers, {"data/out/same": "//////////8="})
    assert result.output_file_count == 2
    assert {o.file: o.crc64nvme for o in result.outputs or []} == {
        "data/out/a": CRC,
        "data/out/same": "//////////8=",
    }
    (warning,) = result.warnings or []
    assert "data/out/same" in warning
    assert "declobber" in warning


@pytest.mark.parametrize("end", [outcome.usage, outcome.failed])
def test_overwritten_paths_are_named_however_the_job_ends(end):
    containers = [
        container(0, outputs=outputs("data/out/same", "data/out/a")),
        container(1, JobState.ERROR),
        container(2, outputs=outputs("data/out/same", "data/out/b")),
    ]
    (warning,) = end(make_job_record(), containers).warnings or []
    assert warning.startswith("More than one container wrote data/out/same, and only the last one")


def test_no_warning_without_a_reason():
    result = outcome.completed(make_job_record(), [container(0, outputs=outputs("data/out/a"))], {})
    assert result.warnings is None


def test_nothing_in_an_output_is_told():
    empty = [S3File(file=f"data/out/{n}", crc64nvme=crc64nvme_text(b"")) for n in range(2)]
    containers = [container(0, outputs=[*outputs("data/out/a"), *empty]), container(1)]
    result = outcome.completed(make_job_record(), containers, {"data/out/1": CRC})
    assert result.warnings == [
        "Ended well, and wrote no output file: container 1",
        "1 of 3 output files is empty (0 bytes), although the program ended well: data/out/0",
    ]


def test_non_zero_exit_has_the_message_of_the_contract():
    result = outcome.failed(
        make_job_record(),
        [
            container(0),
            container(1, JobState.ERROR, exit_code=1, admin_error="Container exit code: 1"),
        ],
    )
    assert result.error == outcome.NON_ZERO_EXIT
    assert result.admin_error == "Container 1: Container exit code: 1"


def test_exceeded_limit_keeps_its_message():
    result = outcome.failed(
        make_job_record(),
        [container(3, JobState.ERROR, exit_code=-9, error="It used too much memory.")],
    )
    assert result.error == "Container 3: It used too much memory."


def test_failure_without_details_is_an_unexpected_error():
    result = outcome.failed(make_job_record(), [container(0, JobState.ERROR)])
    assert result.error == outcome.UNEXPECTED


def test_at_most_ten_failures_are_named():
    result = outcome.failed(
        make_job_record(),
        [container(n, JobState.ERROR, error="It failed.", admin_error="x") for n in range(30)],
    )
    assert (result.error or "").count("It failed.") == 10
    assert (result.error or "").endswith("and 20 more")


def test_job_has_the_warnings_of_its_containers():
    containers = [
        container(0, outputs=outputs("data/out/a")),
        container(1, outputs=outputs("data/out/a"), warnings=["Not stored: link"]),
    ]
    result = outcome.completed(make_job_record(), containers, {"data/out/a": CRC})
    assert result.warnings is not None
    first, second = result.warnings
    assert first == "Container 1: Not stored: link"
    assert second.startswith("More than one container wrote data/out/a")
    broken = [container(0, JobState.ERROR, warnings=["Its stdout is incomplete"])]
    assert outcome.failed(make_job_record(), broken).warnings == [
        "Container 0: Its stdout is incomplete"
    ]
