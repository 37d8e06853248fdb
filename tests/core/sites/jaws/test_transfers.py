"""What helpers are told to do, beside what those of the deployed service were told."""

from __future__ import annotations

import json
from typing import Any

from pydantic import SecretStr

from cts_core.model.site import SiteName
from cts_core.object_paths import FolderPath
from cts_core.objects.s3.presign import PresignedPost
from cts_core.objects.store import ChecksumState, StoredObject
from cts_core.sites.jaws import transfers
from cts_core.sites.jaws.layout import Attempt, Machine, Step, cache_entry
from cts_core.sites.jaws.results import read_checksums, read_outputs, to_upload
from cts_core.sites.jaws.wdl import RunFiles
from tests.harness.factories import NOON
from tests.harness.jaws_vectors import JOB_ID, LAYOUT, LEFT, REFDATA_ID

CACHE = LAYOUT.cache(Machine.DTNS)


def _stored(path: str, crc: str, size: int) -> StoredObject:
    return StoredObject(
        path=path,
        size=size,
        etag="x",
        content_type="",
        modified=NOON,
        checksum=ChecksumState.STORED,
        crc64nvme=crc,
    )


def _deployed(name: str, step: str) -> list[dict[str, Any]]:
    files: list[dict[str, Any]] = LEFT[step][name]["file-transfers"]["files"]
    return files


def test_inputs_go_where_the_deployed_service_put_them():
    told = _deployed("download_manifest.json", "after the download")
    files = {
        _stored(f["url"].removeprefix("http://sim/s3/"), f["crc64nvme-b64"], f["size"]): SecretStr(
            f["url"]
        )
        for f in told
    }
    plan = transfers.download(files, CACHE, insecure=False)
    assert [(f["path"], f["url"], f["size"]) for f in plan["files"]] == [
        (cache_entry(CACHE, f["crc64nvme-b64"]), f["url"], f["size"]) for f in told
    ]
    assert plan["files"][0]["name"] == "cts-data/in/f0.fa"


def test_objects_with_the_same_bytes_are_fetched_once():
    crc = LEFT["after the upload"]["upload_checksums.json"]["files"][0]["crc64nvme"]
    files = {_stored(f"data/{n}", crc, 1): SecretStr(f"link {n}") for n in range(3)}
    assert len(transfers.download(files, CACHE, insecure=True)["files"]) == 1


def test_reference_data_goes_where_the_deployed_service_put_it():
    told = LEFT["refdata"]["download_manifest.json"]["file-transfers"]
    (file,) = told["files"]
    stored = _stored("cts-data/ref/db.tar.gz", file["crc64nvme-b64"], file["size"])
    plan = transfers.stage(
        REFDATA_ID, stored, SecretStr(file["url"]), LAYOUT, unpack=True, insecure=False
    )
    (entry,) = plan["files"]
    assert plan["root"] == LAYOUT.refdata_root
    assert f"{plan['refdata']}/{entry['path']}" == file["outputpath"]
    assert (plan["change_file"], plan["refdata"]) == (
        told["completion-file"],
        told["completion-file-contents"],
    )


def test_outputs_go_where_the_deployed_service_put_them():
    _, summed = read_checksums(json.dumps(LEFT["after the upload"]["upload_checksums.json"]))
    outputs = to_upload(summed, FolderPath("cts-data/out/"))
    uploads = _deployed("upload_manifest.json", "after the upload")
    # Names that cannot be object paths are not stored any more.
    told = [upload for upload in uploads if "'" not in upload["file"]]
    forms = [PresignedPost(f["url"], f["fields"]) for f in told]
    root = told[0]["file"].partition("/./")[0]
    plan = transfers.upload(outputs, forms, root, insecure=False)
    assert [f["path"] for f in plan["files"]] == [f["file"] for f in told]
    assert [f["name"] for f in plan["files"]] == [f"cts-data/{f['fields']['key']}" for f in told]


def test_all_outputs_are_summed_also_those_that_others_overwrite():
    path = "./call-run_container/shard-{}/execution/__output__/a"
    listed = "./call-run_container/shard-1/execution/unstored_files.txt"
    files = [[path.format(0)], [path.format(1), listed]]
    outputs = read_outputs(json.dumps({"x.output_files": files, "x.stdouts": []}))
    plan = transfers.checksums(outputs, "/run", Attempt(Step.CHECKSUMS, 3))
    assert plan == {
        "root": "/run",
        "files": [{"s3path": "a", "respath": path.format(n)} for n in range(2)],
        "unstored": [listed],
        "sums": "checksums-3.sums",
    }


def test_logs_go_below_their_folder():
    form = PresignedPost("http://s3/logs", {"key": "cts/id/${filename}", "policy": "p"})
    plan = transfers.logs("logs/cts/id/", form, "/run", 2, insecure=False)
    assert (plan["key_prefix"], plan["name_prefix"]) == ("cts/id/", "logs/cts/id/")
    assert (plan["errors_json"], plan["containers"]) == ("/run/errors.json", 2)


def test_run_is_submitted_with_its_tag_to_its_site():
    files = RunFiles("wdl", "inputs", {"manifests/manifest-1": "m"}, "w.files")
    plan = transfers.submit(JOB_ID, SiteName.LAWRENCIUM_JAWS, files, LAYOUT, download=2)
    assert plan["command"] == ["jaws", "submit", "--tag", JOB_ID, "input.wdl", "input.json", "jgi"]
    assert (plan["inputs"], plan["download"]) == (["input.json", "w.files"], 2)
    assert sorted(plan["files"]) == [
        name for name in LEFT["names after the submission"] if name.startswith("input")
    ] + ["manifests/manifest-1"]
