"""What JAWS and helpers leave, read as outcomes of containers."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cts_core.model.job import S3File
from cts_core.model.record import ContainerOutcome
from cts_core.object_paths import FolderPath
from cts_core.sites.jaws.results import (
    ResultError,
    RunEnd,
    Summed,
    completed_outcomes,
    end_of,
    failed_outcomes,
    read_checksums,
    read_end,
    read_log_end,
    read_outputs,
    to_upload,
)
from cts_core.sites.site import LogStream
from cts_core.worker.run_errors import read_errors
from tests.harness.factories import CRC
from tests.harness.jaws_vectors import LEFT, RESULTS


def _named(cases: list[dict[str, Any]]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case["name"])


def _by_name(outputs: list[dict[str, str]]) -> dict[str, str]:
    """Return the path of each output; of two containers with one name the later one counts, as at the deployed service."""
    return {name: path for files in outputs for name, path in files.items()}


@_named(RESULTS["outputs"])
def test_outputs(case: dict[str, Any]):
    text = json.dumps(case["outputs_json"])
    if "deployed_error" in case:
        with pytest.raises(ResultError, match=r"unknown key 'ghcr_io_kbase_tool.other'"):
            read_outputs(text)
        return
    outputs = read_outputs(text)
    assert _by_name(outputs.files) == case["files"]
    assert outputs.unstored == []


def test_outputs_of_a_job_of_the_deployed_service():
    outputs = read_outputs(json.dumps(LEFT["outputs.json of JAWS"]))
    summed = LEFT["after the upload"]["upload_checksums.json"]["files"]
    assert _by_name(outputs.files) == {file["s3path"]: file["respath"] for file in summed}


@_named(RESULTS["errors"])
def test_errors(case: dict[str, Any]):
    errors = read_errors(json.dumps(case["errors_json"]))
    outcomes = failed_outcomes(errors, case["containers"])
    if "deployed_error" in case:
        return
    assert [outcome.exit_code for outcome in outcomes] == case["exit_codes"]
    assert [outcome.admin_error for outcome in outcomes] == case["messages"]
    logs = {}
    for number, shard in errors.shards.items():
        logs[LogStream.STDOUT.file_name(number)] = shard.stdout
        logs[LogStream.STDERR.file_name(number)] = shard.stderr
    assert logs == case["logs"]


def _outcomes(name: str) -> list[ContainerOutcome]:
    (case,) = (case for case in RESULTS["errors"] if case["name"] == name)
    return failed_outcomes(read_errors(json.dumps(case["errors_json"])), case["containers"])


UNTOLD = "The run failed: JAWS tells nothing of this container"


def test_any_part_of_the_containers_may_be_told():
    outcomes = _outcomes("only the second of three is told")
    assert [outcome.exit_code for outcome in outcomes] == [None, 7, None]
    first, second, third = (outcome.admin_error or "" for outcome in outcomes)
    assert first == third == UNTOLD
    assert second.startswith("Job ghcr_io_kbase_tool.run_container:1:1 exited with return code 7")


def test_container_without_logs_has_its_message():
    (outcome,) = _outcomes("no log contents")
    assert (outcome.exit_code, outcome.admin_error) == (None, "Unable to pull image")


def test_failure_before_any_container_is_that_of_each():
    reasons = {outcome.admin_error for outcome in _outcomes("failures of the workflow alone")}
    assert reasons == {"The run failed: Workflow input processing failed"}
    assert [outcome.admin_error for outcome in _outcomes("empty")] == [UNTOLD]


def test_last_attempt_of_a_container_counts():
    entries = [
        {"shardIndex": 0, "attempt": 2, "returnCode": 2},
        {"shardIndex": 0, "attempt": 1, "returnCode": 1},
    ]
    errors = read_errors(json.dumps({"calls": {"x.run_container": entries}}))
    assert errors.shards[0].exit_code == 2


def test_message_of_a_cause_stands_for_one_that_has_none():
    failure = {"causedBy": [{"message": "", "causedBy": [{"message": "disk full"}]}]}
    assert read_errors(json.dumps({"failures": [failure]})).message == "disk full"


def test_checksums_are_outputs_of_their_containers():
    after = LEFT["after the upload"]
    _, summed = read_checksums(json.dumps(after["upload_checksums.json"]))
    outcomes = completed_outcomes(summed, FolderPath("cts-data/out"), 2)
    assert [outcome.exit_code for outcome in outcomes] == [0, 0]
    uploaded = {
        f"cts-data/{file['fields']['key']}": file["fields"]["x-amz-checksum-crc64nvme"]
        for file in after["upload_manifest.json"]["file-transfers"]["files"]
    }
    assert sorted(uploaded) == sorted(LEFT["objects"])
    outputs = [output for outcome in outcomes for output in outcome.outputs or ()]
    # Contrary to the deployed service, ours has no object whose path has a quote in it.
    quoted = {path for path in uploaded if "'" in path}
    stored = {path: crc for path, crc in uploaded.items() if path not in quoted}
    assert outputs == [S3File(file=path, crc64nvme=crc) for path, crc in stored.items()]
    for number, outcome in enumerate(outcomes):
        assert f"""stored: "{number}/sub dir/it's $x.txt" (it contains ')""" in (
            outcome.error or ""
        )
    to_store = to_upload(summed, FolderPath("cts-data/out"))
    assert {path: output.crc64nvme for path, output in to_store.items()} == stored


def test_outputs_that_no_object_can_be_named_after_are_an_error_of_their_container():
    place = "./call-run_container/shard-{}/execution"
    files = [[f"{place.format(n)}/__output__/a"] for n in (0, 1)]
    listed = f"{place.format(1)}/unstored_files.txt"
    # A program may name an output like the list.
    files[0].append(f"{place.format(0)}/__output__/unstored_files.txt")
    files[1].append(listed)
    outputs = read_outputs(json.dumps({"x.output_files": files}))
    assert [list(names) for names in outputs.files] == [["a", "unstored_files.txt"], ["a"]]
    assert outputs.unstored == [listed]
    summed = [Summed("a", files[1][0], CRC), Summed("b\tc", listed, CRC, 0)]
    first, second = completed_outcomes(summed, FolderPath("b-b/out"), 2)
    assert (first.error, second.outputs) == (None, [S3File(file="b-b/out/a", crc64nvme=CRC)])
    assert "stored: 'b\\tc' (it contains a control character)" in (second.error or "")
    assert to_upload(summed, FolderPath("b-b/out")) == {"b-b/out/a": summed[0]}


def test_of_two_outputs_with_one_path_the_later_containers_is_stored():
    summed = [
        Summed("a", f"call-run_container/shard-{n}/execution/__output__/a", CRC) for n in (1, 0)
    ]
    assert to_upload(summed, FolderPath("b-b/out")) == {"b-b/out/a": summed[0]}
    first, second = completed_outcomes(summed, FolderPath("b-b/out"), 2)
    assert first.outputs == second.outputs == [S3File(file="b-b/out/a", crc64nvme=CRC)]


def test_output_of_no_container_of_the_job_is_refused():
    _, summed = read_checksums(json.dumps(LEFT["after the upload"]["upload_checksums.json"]))
    with pytest.raises(ResultError, match="of no container of the job"):
        completed_outcomes(summed, FolderPath("cts-data/out"), 1)


@pytest.mark.parametrize(
    "change",
    [
        {"respath": "/etc/passwd"},
        {"respath": "./call-run_container/../../x"},
        {"s3path": "../x"},
        {"crc64nvme": "AAAA"},
        {"crc64nvme": "no base64!"},
        {"crc64nvme": None},
    ],
    ids=str,
)
def test_checksums_that_lead_elsewhere_are_refused(change: dict[str, Any]):
    content = json.loads(json.dumps(LEFT["after the upload"]["upload_checksums.json"]))
    content["files"][0] |= change
    with pytest.raises(ResultError):
        read_checksums(json.dumps(content))


@pytest.mark.parametrize(
    "path", ["/x/__output__/y", "./../__output__/y", "./x/y", "./__output__/ "]
)
def test_output_elsewhere_is_refused(path: str):
    with pytest.raises(ResultError):
        read_outputs(json.dumps({"x.output_files": [[path]]}))


@pytest.mark.parametrize("case", RESULTS["runs"], ids=str)
def test_end_of_a_run(case: dict[str, Any]):
    end = end_of(case["status"], case["result"])
    assert (end is not None, end) == (case["done"], case["means"])


def test_unknown_result_of_a_run_is_an_error():
    with pytest.raises(ResultError, match="'new'"):
        end_of("done", "new")
    assert end_of("done", None) is RunEnd.SYSTEM_ERROR


def test_ends_of_the_deployed_helper():
    assert (done := read_end(json.dumps(LEFT["after the download"]["download_result.json"])))
    assert done.is_done
    failed = LEFT["after a failed download whose callback was refused"]["download_result.json"]
    assert (end := read_end(json.dumps(failed)))
    assert (end.is_done, end.reason, end.traceback) == (
        False,
        failed["job_msg"],
        failed["job_trace"],
    )
    assert not end.is_lasting, "it may have been an outage"


@pytest.mark.parametrize("text", ["", '{"result": "succ', "[]", '{"result": "new"}'])
def test_half_a_file_is_no_end(text: str):
    assert read_end(text) is None


def test_exit_codes_that_the_deployed_helper_read():
    data = LEFT["after the error logs"]["error_log_result.json"]["data"]
    outcomes = failed_outcomes(read_log_end(data, 3), 3)
    assert [outcome.exit_code for outcome in outcomes] == [3, 4, None]
    assert outcomes[0].admin_error == data[0][1]


def test_exit_codes_that_our_helper_read():
    data = {"shards": {"1": [3, "why"], "x": 5, "7": [1, "of none"]}, "message": "the run's"}
    outcomes = failed_outcomes(read_log_end(data, 3), 3)
    assert [outcome.exit_code for outcome in outcomes] == [None, 3, None]
    assert outcomes[0].admin_error == "The run failed: the run's"


_KEYS = (
    *("calls", "x.run_container", "failures", "message", "causedBy", "shardIndex"),
    *("files", "x.output_files", "x.stdouts", "result", "respath", "s3path", "crc64nvme"),
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=4)
    ),
    max_leaves=15,
)


@given(_JSON)
def test_nothing_but_a_result_error_comes_of_what_others_wrote(content: object):
    text = json.dumps(content)
    read_end(text)
    for read in (read_outputs, read_errors, read_checksums):
        with contextlib.suppress(ResultError):
            read(text)
