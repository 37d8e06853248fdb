"""The paths at NERSC, against those of the deployed service."""

from __future__ import annotations

import dataclasses

import pytest

from cts_core.errors import ConfigError
from cts_core.model.site import SiteName
from cts_core.sites.jaws.layout import (
    DEPLOYED_CHECKSUMS,
    DEPLOYED_RESULTS,
    INPUTS,
    JAWS_SITES,
    MANIFESTS,
    WDL,
    Attempt,
    Kind,
    Layout,
    Machine,
    Step,
    attempts_in,
    cache_entry,
    run_folder,
)
from cts_core.sites.site import LogStream
from tests.harness.jaws_vectors import JOB_ID, LAYOUT, LEFT, REFDATA_ID, RESULTS, RUNS


def test_cache_of_both_views_is_that_of_the_deployed_service():
    manifest = LEFT["after the download"]["download_manifest.json"]["file-transfers"]
    assert LAYOUT.cache(Machine.DTNS) == manifest["cache-dir"]
    assert {LAYOUT.cache(Machine.PERLMUTTER)} == {case["cache_dir"] for case in RUNS["cases"]}


@pytest.mark.parametrize("case", RESULTS["cache"], ids=lambda case: case["crc64nvme"])
def test_cache_entry(case: dict[str, str]):
    assert cache_entry("/cache", case["crc64nvme"]) == case["path"]


def test_files_of_runs_are_in_the_cache():
    for case in RUNS["cases"]:
        for file in case["job_input"]["input_files"]:
            entry = cache_entry(case["cache_dir"], file["crc64nvme"])
            assert case["files"][file["file"]] == entry


def test_job_folder_and_code_are_where_the_deployed_service_has_them():
    environment = LEFT["after the download"]["download_result.json"]["cts_env"]
    folder, _, name = environment["CTS_RESULT_FILE_LOCATION"].rpartition("/")
    assert (LAYOUT.job(JOB_ID), DEPLOYED_RESULTS[Step.DOWNLOAD]) == (folder, name)
    assert LAYOUT.job(JOB_ID, Machine.PERLMUTTER) == folder.removeprefix("/global")
    assert LAYOUT.code("0.1.0-prototype6") == environment["CTS_CODE_LOCATION"]
    started = LEFT["files after the start"]
    assert f"home/cdm_ts/{LAYOUT.jaws_config}" in started


def test_names_in_a_job_folder_are_those_of_the_deployed_service():
    assert {WDL, INPUTS, f"{MANIFESTS}/manifest-1"} < set(LEFT["names after the submission"])
    after = LEFT["after the upload"]
    names = {DEPLOYED_CHECKSUMS, DEPLOYED_RESULTS[Step.CHECKSUMS], DEPLOYED_RESULTS[Step.UPLOAD]}
    assert names < after.keys()
    logs = LEFT["after the error logs"]
    assert DEPLOYED_RESULTS[Step.LOGS] in logs
    assert f"logs/{LogStream.STDOUT.file_name(1)}" in logs


def test_reference_data_is_where_the_deployed_service_has_it():
    transfers = LEFT["refdata"]["download_manifest.json"]["file-transfers"]
    assert LAYOUT.change_file(REFDATA_ID) == transfers["completion-file"]
    assert LAYOUT.refdata(REFDATA_ID) == transfers["completion-file-contents"]
    assert f"{LAYOUT.refdata_for_jaws(REFDATA_ID)}/db/x.txt" in LEFT["refdata root"]
    condition = LEFT["callback for the copy to lawrencium"]["json"]["path_condition"]
    assert LAYOUT.change_answer(REFDATA_ID, SiteName.LAWRENCIUM_JAWS) == condition["path"]
    result = LEFT["refdata"]["download_result.json"]["cts_env"]["CTS_RESULT_FILE_LOCATION"]
    assert LAYOUT.refdata_work(REFDATA_ID) == result.rpartition("/")[0]


def test_sites_have_their_names_at_jaws():
    assert {case["cluster"]: case["site"] for case in RESULTS["sites"]} == JAWS_SITES


def test_attempts_are_told_from_other_names():
    names = [
        "download-1.claim",
        "download-1.json",
        "download-12.sums",
        "upload-2.claim",
        *("download_result.json", "download-0.claim", "download-01.claim", "download-x.claim"),
        *("other-1.claim", "download-1.claim.tmp", "input.wdl", "download--1.json"),
    ]
    assert attempts_in(names) == {
        Attempt(Step.DOWNLOAD, 1): {Kind.CLAIM, Kind.END},
        Attempt(Step.DOWNLOAD, 12): {Kind.SUMS},
        Attempt(Step.UPLOAD, 2): {Kind.CLAIM},
    }
    assert Attempt(Step.LOGS, 3).file(Kind.END) == "logs-3.json"


@pytest.mark.parametrize(
    ("output_dir", "run_id", "folder"),
    [
        ("/global/jaws/output/kbase/cdm_ts/1000/9f16", "1000", "/global/jaws/output/kbase/cdm_ts/1000"),
        ("/global/jaws/1000", "1000", "/global/jaws/1000"),
        ("/global/1000/x/1000/y/", "1000", "/global/1000/x/1000"),
        ("/global/jaws/10001/y", "1000", None),
        ("/1000/y", "1000", None),
        ("jaws/x/1000/y", "1000", None),
        ("/global/jaws/../1000/y", "1000", None),
        ("/global//1000/y", "1000", None),
        ("/global/jaws/y", "", None),
        ("/global/jaws/..", "..", None),
    ],
)  # fmt: skip
def test_folder_of_a_run(output_dir: str, run_id: str, folder: str | None):
    assert run_folder(output_dir, run_id) == folder


@pytest.mark.parametrize(
    "change",
    [
        {"group": "a b"},
        {"user": "../x"},
        {"refdata_root": "relative"},
        {"refdata_root": "/a/../b"},
        {"code_root": "/a b"},
        {"code_root": ""},
        {"scratch": {Machine.DTNS: "/$(id)", Machine.PERLMUTTER: "/p"}},
        {"staging": {Machine.DTNS: "/s", Machine.PERLMUTTER: '/"'}},
    ],
    ids=str,
)
def test_folder_that_could_not_stand_in_a_command_is_refused(change: dict[str, object]):
    with pytest.raises(ConfigError):
        dataclasses.replace(LAYOUT, **change)
    assert isinstance(LAYOUT, Layout)
