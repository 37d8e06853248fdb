"""The helper at NERSC: its steps, what it tells, and that doubled commands work once."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest

from cts_core.sites.jaws.layout import Attempt, Kind, Step
from cts_core.sites.jaws.results import StepEnd, read_checksums, read_end
from cts_core.worker import nersc
from cts_core.worker.checksum import EMPTY, crc64nvme_text
from cts_core.worker.links import Source
from tests.harness.paths import ROOT

ALL = r".*"


class Job:
    """A job's folder, in which steps are attempted as by commands."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "job"
        self.plans = root / "plans"
        self.plans.mkdir()

    def plan(self, **plan: Any) -> Path:
        path = self.plans / f"job.{len(list(self.plans.iterdir()))}.plan"
        path.write_text(json.dumps({"callback": "http://127.0.0.1:1/", **plan}))
        return path

    def attempt(self, step: Step, number: int = 1, **plan: Any) -> StepEnd | None:
        path = self.plan(**plan)
        nersc.main(["attempt", str(self.folder), step.value, str(number), str(path)])
        assert not path.exists()
        return self.end(step, number)

    def end(self, step: Step, number: int = 1) -> StepEnd | None:
        return read_end((self.folder / Attempt(step, number).file(Kind.END)).read_text())


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def _fake_jaws(folder: Path, text: str) -> list[str]:
    program = folder / "jaws"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return [str(program), "submit", "--tag", "id", "input.wdl"]


def _submit_plan(folder: Path, text: str) -> dict[str, Any]:
    cached = folder / "cached"
    cached.touch()
    inputs = json.dumps({"w.files": [[str(cached), "manifests/m"]]})
    files = {"input.wdl": "the workflow", "input.json": inputs, "manifests/m": "1\n"}
    return {
        "command": _fake_jaws(folder, text),
        "files": files,
        "config": "~/jaws.conf",
        "inputs": ["input.json", "w.files"],
        "download": 3,
    }


# -- submission --


def test_run_is_submitted_by_files_of_the_folder(job: Job, tmp_path: Path):
    plan = _submit_plan(
        tmp_path,
        'echo "found {1} cached"; cat "$4" >"$4.seen"; echo "$JAWS_USER_CONFIG" >>"$4.seen"; echo \'{"run_id": 77, "a": {}}\'',
    )
    assert job.attempt(Step.SUBMIT, **plan) == StepEnd(is_done=True, data={"run_id": 77})
    seen = (job.folder / "input.wdl.seen").read_text()
    assert seen == f"the workflow{Path.home()}/jaws.conf\n"
    assert (job.folder / "manifests" / "m").read_text() == "1\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("echo no site >&2; exit 2", "JAWS's client ended with 2 and says: no site"),
        ("echo '{\"other\": 1}'", 'JAWS\'s client ended with 0 and says: {"other": 1}'),
        ("exit 1", "JAWS's client ended with 1 and says: nothing"),
    ],
)
def test_refused_submission_may_be_tried_again(job: Job, tmp_path: Path, text: str, reason: str):
    end = job.attempt(Step.SUBMIT, **_submit_plan(tmp_path, text))
    assert end is not None
    assert (end.is_done, end.is_lasting, end.reason) == (False, False, reason)


def test_nothing_is_submitted_whose_inputs_are_gone(job: Job, tmp_path: Path):
    plan = _submit_plan(tmp_path, f"touch {tmp_path}/ran")
    (tmp_path / "cached").unlink()
    end = job.attempt(Step.SUBMIT, **plan)
    assert end is not None
    assert (end.is_done, end.is_lasting, end.data) == (False, False, {"without_inputs": 3})
    assert end.reason is not None
    assert end.reason.startswith("1 of 1 inputs are not in JAWS's staging area any more")
    assert not (tmp_path / "ran").exists()


def test_attempt_that_was_taken_for_lost_submits_nothing(job: Job, tmp_path: Path):
    job.folder.mkdir()
    (job.folder / "submit-2.claim").touch()
    end = job.attempt(Step.SUBMIT, **_submit_plan(tmp_path, f"touch {tmp_path}/ran"))
    assert end is not None
    assert not end.is_done
    assert not (tmp_path / "ran").exists()


def test_stopped_job_is_never_submitted(job: Job, tmp_path: Path):
    assert nersc.stop(str(job.folder), str(job.plans)) == []
    assert nersc.stop(str(job.folder), str(job.plans)) == []
    plan = _submit_plan(tmp_path, f"touch {tmp_path}/ran")
    path = job.plan(**plan)
    nersc.main(["attempt", str(job.folder), "submit", "1", str(path)])
    assert not path.exists()
    assert not (tmp_path / "ran").exists()


def test_job_that_was_stopped_and_cleaned_is_not_submitted_by_a_late_command(
    job: Job, tmp_path: Path
):
    path = job.plan(**_submit_plan(tmp_path, f"touch {tmp_path}/ran"))
    other = path.with_name("job2.0.plan")
    other.touch()
    nersc.main(["stop", str(job.folder), str(job.plans)])
    shutil.rmtree(job.folder)
    nersc.main(["attempt", str(job.folder), "submit", "1", str(path)])
    assert not (tmp_path / "ran").exists()
    assert not job.folder.exists()
    assert list(job.plans.iterdir()) == [other]


def test_stop_tells_of_attempts_that_have_begun(job: Job, tmp_path: Path):
    job.attempt(Step.SUBMIT, **_submit_plan(tmp_path, "echo '{\"run_id\": 1}'"))
    stopped: list[list[int]] = []
    threads = [
        threading.Thread(target=lambda: stopped.append(nersc.stop(str(job.folder), str(job.plans))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stopped == [[1]] * 4
    assert sorted(p.name for p in job.folder.glob("submit-*.claim")) == [
        "submit-1.claim",
        "submit-2.claim",
    ]


# -- checksums and logs --


def test_checksums_of_outputs(job: Job, tmp_path: Path):
    root = tmp_path / "run"
    (root / "call").mkdir(parents=True)
    (root / "call" / "a b").write_bytes(b"content")
    files = [{"s3path": "a b", "respath": "./call/a b"}]
    end = _sum(job, root, files)
    assert end == StepEnd(is_done=True, data={"files": 1, "bytes": 7})
    _, (summed,) = read_checksums((job.folder / "checksums-1.sums").read_bytes())
    assert (summed.name, summed.size, summed.crc64nvme) == ("a b", 7, crc64nvme_text(b"content"))


def test_outputs_that_no_object_can_be_named_after_are_told(job: Job, tmp_path: Path):
    root = tmp_path / "run"
    listed = "./call-run_container/shard-1/execution/unstored_files.txt"
    path = root / listed
    path.parent.mkdir(parents=True)
    path.write_bytes(b"./__output__/a\tb\0./__output__/1/__output__/\n\xff\0")
    end = _sum(job, root, [], listed)
    assert end == StepEnd(is_done=True, data={"files": 2, "bytes": 0})
    _, summed = read_checksums((job.folder / "checksums-1.sums").read_bytes())
    assert [output.name for output in summed] == ["a\tb", "1/__output__/\n\\xff"]
    assert {output.container for output in summed} == {1}


def _sum(job: Job, root: Path, files: list[dict[str, str]], *unstored: str) -> StepEnd | None:
    plan = {"root": str(root), "files": files, "unstored": unstored, "sums": "checksums-1.sums"}
    return job.attempt(Step.CHECKSUMS, **plan)


def _checksum(job: Job, root: Path, path: str) -> StepEnd:
    files = [{"s3path": "x", "respath": path}]
    end = _sum(job, root, files)
    assert end is not None
    assert not end.is_done
    return end


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("link", "leads out of the folder"),
        ("folder/secret", "leads out of the folder"),
        ("../secret", "leads out of the folder"),
        ("pipe", "is no regular file"),
        ("call", "is no regular file"),
        ("call/purged", "is gone"),
    ],
)
def test_outputs_are_files_of_the_run_alone(job: Job, tmp_path: Path, path: str, reason: str):
    (tmp_path / "secret").write_text("token")
    root = tmp_path / "run"
    (root / "call").mkdir(parents=True)
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "folder").symlink_to(tmp_path)
    os.mkfifo(root / "pipe")
    end = _checksum(job, root, path)
    assert end.is_lasting
    assert reason in (end.reason or "")


def _upload(job: Job, root: Path) -> StepEnd:
    target = {"name": "x", "url": "http://127.0.0.1:1/", "fields": {}, "crc64nvme": EMPTY}
    files = [{**target, "path": str(root / "x"), "size": 0}]
    end = job.attempt(Step.UPLOAD, root=str(root), files=files, insecure=False)
    assert end is not None
    return end


def _read_errors(job: Job, errors: Path) -> StepEnd:
    plan = {"containers": 2, "insecure": False, "fields": {}, "key_prefix": "", "name_prefix": ""}
    end = job.attempt(Step.LOGS, errors_json=str(errors), url="", **plan)
    assert end is not None
    return end


def test_folder_of_a_run_that_is_away_may_come_back(job: Job, tmp_path: Path):
    away = tmp_path / "away"
    for end in (
        _checksum(job, away, "x"),
        _upload(job, away),
        _read_errors(job, away / "errors.json"),
    ):
        assert not end.is_done
        assert not end.is_lasting
        assert "No such file" in (end.reason or "")


def test_output_that_is_gone_from_its_folder_fails_for_good(job: Job, tmp_path: Path):
    assert _upload(job, tmp_path).is_lasting


def test_outputs_may_be_reached_by_links_within_the_run(job: Job, tmp_path: Path):
    root = tmp_path / "run"
    root.mkdir()
    (root / "file").write_bytes(b"content")
    (root / "link").symlink_to("file")
    (tmp_path / "by another path").symlink_to(root)
    files = [{"s3path": "x", "respath": "link"}]
    end = _sum(job, tmp_path / "by another path", files)
    assert end == StepEnd(is_done=True, data={"files": 1, "bytes": 7})


@pytest.mark.parametrize("text", ["{", "[]", '{"calls": [1]}', '{"calls": {"x": 1}}'])
def test_failures_that_cannot_be_understood_end_the_step(job: Job, tmp_path: Path, text: str):
    errors = tmp_path / "errors.json"
    errors.write_text(text)
    end = _read_errors(job, errors)
    assert end.is_done
    assert end.data["message"].startswith("errors.json")


def test_logs_of_a_run_without_any_failure_told(job: Job, tmp_path: Path):
    end = _read_errors(job, tmp_path / "none")
    assert end == StepEnd(is_done=True, data={"shards": {}, "message": None})


def test_logs_are_stored_with_their_codes(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sent: list[Any] = []
    monkeypatch.setattr(nersc, "send", lambda targets, _root, insecure: sent.extend(targets))
    shard = {"shardIndex": 1, "returnCode": 3, "stdoutContents": "out", "stderrContents": "é"}
    beyond = {**shard, "shardIndex": 9}
    errors = tmp_path / "errors.json"
    errors.write_text(json.dumps({"calls": {"x.run_container": [shard, beyond]}}))
    end = job.attempt(
        Step.LOGS,
        errors_json=str(errors),
        containers=2,
        insecure=False,
        url="http://s3",
        fields={"policy": "p"},
        key_prefix="cts/id/",
        name_prefix="logs/cts/id/",
    )
    assert end is not None
    assert end.data["shards"]["1"] == [3, None]
    assert [(t.name, t.fields["key"], t.size) for t in sent] == [
        ("logs/cts/id/container-1-stdout.txt", "cts/id/container-1-stdout.txt", 3),
        ("logs/cts/id/container-1-stderr.txt", "cts/id/container-1-stderr.txt", 2),
    ]
    assert (job.folder / "logs" / "container-1-stderr.txt").read_text() == "é"


# -- reference data --


def _tar(path: Path, *, link: bool = False) -> None:
    with tarfile.open(path, "w:gz") as tar:
        entry = tarfile.TarInfo("db/x.txt")
        entry.size = 3
        tar.addfile(entry, io.BytesIO(b"abc"))
        if link:
            entry = tarfile.TarInfo("db/link")
            entry.type, entry.linkname = tarfile.SYMTYPE, "x.txt"
            tar.addfile(entry)


@pytest.fixture
def staged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The archive that is fetched."""
    archive = tmp_path / "archive"

    def fetch(sources: dict[str, Source], *, insecure: bool) -> None:
        ((path, _),) = sources.items()
        Path(path).parent.mkdir(parents=True)
        Path(path).write_bytes(archive.read_bytes())

    monkeypatch.setattr(nersc, "fetch", fetch)
    (tmp_path / "refdata").mkdir()
    return archive


def _refdata_plan(tmp_path: Path, name: str, *, unpack: bool) -> dict[str, Any]:
    return {
        "files": [{"path": name, "name": "data/ref", "url": "", "crc64nvme": "", "size": 1}],
        "insecure": False,
        "root": str(tmp_path / "refdata"),
        "refdata": str(tmp_path / "refdata" / "id"),
        "unpack": unpack,
        "limits": {"bytes": 100_000, "entries": 10, "free": 0},
        "change_file": str(tmp_path / "refdata" / "changes.txt"),
    }


@pytest.mark.parametrize(
    ("name", "unpack", "files"),
    [
        ("db.TAR.gz", True, ["db/x.txt"]),
        ("db.tgz", False, ["db.tgz"]),
        ("A.GZ", True, ["A"]),
    ],
)
def test_reference_data_is_there_whole(
    job: Job, tmp_path: Path, staged: Path, name: str, *, unpack: bool, files: list[str]
):
    _tar(staged)
    folder = tmp_path / "refdata" / "id"
    folder.mkdir()
    (folder / "left by an attempt that was lost").touch()
    end = job.attempt(Step.DOWNLOAD, **_refdata_plan(tmp_path, name, unpack=unpack))
    assert end == StepEnd(is_done=True)
    found = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    assert found == files
    assert (tmp_path / "refdata" / "changes.txt").read_text() == f"{folder}\n"
    assert len(list((tmp_path / "refdata").iterdir())) == 2


def test_what_killed_stagings_have_left_is_removed_by_the_next(
    job: Job, tmp_path: Path, staged: Path
):
    _tar(staged)
    root = tmp_path / "refdata"
    for name in ("id.1f.tmp/db", "id.1f.tmp.packed", "id.2e.tmp.packed", "other.3d.tmp"):
        (root / name).mkdir(parents=True)
    (root / "changes.txt.4c.tmp").touch()
    assert job.attempt(Step.DOWNLOAD, 2, **_refdata_plan(tmp_path, "db.tgz", unpack=True))
    assert {path.name for path in root.iterdir()} == {"id", "changes.txt", "other.3d.tmp"}


def _other_group() -> int:
    """Return a group that this process may give files to, and that they do not have by themselves."""
    groups = [4242] if os.geteuid() == 0 else os.getgroups()
    return next((g for g in groups if g != os.getegid()), os.getegid())


@pytest.mark.parametrize("unpack", [True, False])
def test_reference_data_can_be_read_by_the_group_of_their_root(
    job: Job, tmp_path: Path, staged: Path, *, unpack: bool
):
    _tar(staged)
    root, group = tmp_path / "refdata", _other_group()
    os.chown(root, -1, group)
    plan = _refdata_plan(tmp_path, "db.tgz", unpack=unpack)
    folder = root / "cdm_task_service" / "prod" / "id"
    before = os.umask(0o077)
    try:
        end = job.attempt(Step.DOWNLOAD, **{**plan, "refdata": str(folder)})
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    assert end == StepEnd(is_done=True)
    found = list(root.rglob("*"))
    assert len(found) == (6 if unpack else 5)
    for path in found:
        reads = 0o050 if path.is_dir() else 0o040
        assert (path.stat().st_gid, path.stat().st_mode & reads) == (group, reads), path


def test_group_that_cannot_be_given_fails_the_staging_before_jaws_copies_it(
    job: Job, tmp_path: Path, staged: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if (group := _other_group()) == os.getegid():
        pytest.skip("needs a user with two groups")
    _tar(staged)
    os.chown(tmp_path / "refdata", -1, group)
    monkeypatch.setattr(os, "chown", refuse)
    end = job.attempt(Step.DOWNLOAD, **_refdata_plan(tmp_path, "db.tgz", unpack=True))
    assert end is not None
    assert (end.is_done, end.is_lasting) == (False, False)
    assert "has to be in that group" in (end.reason or "")
    assert not list((tmp_path / "refdata").iterdir())


def test_root_of_reference_data_that_is_away_is_not_made(job: Job, tmp_path: Path, staged: Path):
    _tar(staged)
    (tmp_path / "refdata").rmdir()
    end = job.attempt(Step.DOWNLOAD, **_refdata_plan(tmp_path, "db.tgz", unpack=True))
    assert end is not None
    assert (end.is_done, end.is_lasting) == (False, False)
    assert not (tmp_path / "refdata").exists()


def test_inputs_can_be_read_by_the_group_whatever_the_umask_is(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made = tmp_path / "cache" / "ab"

    def fetch(_: object, **__: object) -> None:
        made.mkdir(parents=True)

    monkeypatch.setattr(nersc, "fetch", fetch)
    before = os.umask(0o077)
    try:
        end = job.attempt(Step.DOWNLOAD, files=[], insecure=False)
    finally:
        os.umask(before)
    assert end == StepEnd(is_done=True)
    assert made.stat().st_mode & 0o777 == 0o750


def test_archive_with_links_fails_for_good(job: Job, tmp_path: Path, staged: Path):
    _tar(staged, link=True)
    end = job.attempt(Step.DOWNLOAD, **_refdata_plan(tmp_path, "db.tgz", unpack=True))
    assert end is not None
    assert end.is_lasting
    assert "symbolic link 'db/link'" in (end.reason or "")
    assert not list((tmp_path / "refdata").iterdir())


# -- looking --


def test_look_tells_of_the_files_that_are_asked_for(job: Job, tmp_path: Path):
    job.attempt(Step.UPLOAD, root="/", files=[], insecure=False)
    (job.folder / "other").write_text("secret")
    (job.folder / "upload-2.json").write_text("x" * (nersc.MAX_INLINE + 1))
    question = {
        "folders": [str(job.folder), str(tmp_path / "none")],
        "names": r"upload-\d+\.(claim|json)",
        "told": r".*\.json",
        "plans": str(job.plans),
        "room": 10_000,
    }
    answer = nersc.look(question)
    assert answer["left"] == []
    assert answer["folders"][str(tmp_path / "none")] is None
    files = answer["folders"][str(job.folder)]
    assert set(files) == {"upload-1.claim", "upload-1.json", "upload-2.json"}
    assert "text" not in files["upload-1.claim"]
    assert 0 <= files["upload-1.claim"]["age"] < 300
    assert read_end(files["upload-1.json"]["text"]) == StepEnd(is_done=True)
    assert (files["upload-2.json"]["size"], files["upload-2.json"].get("text")) == (
        nersc.MAX_INLINE + 1,
        None,
    )


def _question(job: Job, folders: list[str], *, room: int = 10_000) -> dict[str, Any]:
    """Return the question for all files of these folders, and what is in them."""
    plans = str(job.plans)
    return {"folders": folders, "names": ALL, "told": ALL, "plans": plans, "room": room}


def test_folder_that_cannot_be_read_is_left_out(job: Job, tmp_path: Path):
    job.folder.mkdir()
    (tmp_path / "no folder").touch()
    folders = [str(tmp_path / "no folder"), str(job.folder)]
    answer = nersc.look(_question(job, folders))
    assert answer == {"folders": {str(job.folder): {}}, "left": []}


def test_look_leaves_folders_for_which_there_is_no_room(job: Job, tmp_path: Path):
    folders = [str(tmp_path / name) for name in "abcd"]
    for folder, length in zip(folders, (10, 5000, 10, 10), strict=True):
        Path(folder).mkdir()
        for name in ("1", "2"):
            (Path(folder) / name).write_text('"' * length)
    answers = list[Any]()
    left = folders
    while left:
        answers.append(nersc.look(_question(job, left, room=10_200)))
        left = answers[-1]["left"]
    texts = {
        folder: sorted(len(file.get("text", "")) for file in files.values())
        for answer in answers
        for folder, files in answer["folders"].items()
    }
    # Of a folder that has more than there is room for, the rest has to be read by itself.
    assert list(texts.values()) == [[10, 10], [0, 5000], [10, 10], [10, 10]]
    assert [len(answer["folders"]) for answer in answers] == [1, 1, 2]
    assert all(len(json.dumps(answer["folders"])) < 11_000 for answer in answers)


def test_plans_that_nobody_reads_are_removed(job: Job):
    old, new = job.plan(), job.plan()
    os.utime(old, (0, 0))
    assert nersc.look(_question(job, [])) == {"folders": {}, "left": []}
    assert not old.exists()
    assert new.exists()


def test_plan_is_read_before_the_claim_is_made(job: Job, monkeypatch: pytest.MonkeyPatch):
    plan = job.plan(root="/", files=[], insecure=False)
    words = ["attempt", str(job.folder), "upload", "1", str(plan)]
    claim = nersc.Attempt.claim

    def claim_twice(attempt: nersc.Attempt) -> bool:
        is_claimed = claim(attempt)
        # The same command runs once more, and comes too late.
        monkeypatch.setattr(nersc.Attempt, "claim", claim)
        nersc.main(words)
        assert not plan.exists()
        return is_claimed

    monkeypatch.setattr(nersc.Attempt, "claim", claim_twice)
    nersc.main(words)
    assert job.end(Step.UPLOAD) == StepEnd(is_done=True)


def test_attempt_without_a_plan_is_not_claimed(job: Job):
    nersc.main(["attempt", str(job.folder), "upload", "1", str(job.plans / "none")])
    assert not job.folder.exists()


# -- as a program --


@pytest.mark.slow
@pytest.mark.parametrize(
    "point", ["submit:claimed", "submit:before", "submit:after", "submit:done"]
)
def test_killed_helper_is_seen_as_lost_and_submits_at_most_once(
    job: Job, tmp_path: Path, point: str
):
    plan = _submit_plan(tmp_path, f"echo ran >>{tmp_path}/ran; echo '{{\"run_id\": 1}}'")

    def run(number: int, **environment: str) -> None:
        command = [sys.executable, "-m", "cts_core.worker.nersc", "attempt", str(job.folder)]
        subprocess.run(
            [*command, "submit", str(number), str(job.plan(**plan))],
            env={**os.environ, **environment},
            cwd=ROOT,
            check=False,
        )

    run(1, CTS_FAILPOINTS=f"{point}=kill")
    assert (job.folder / "submit-1.claim").exists()
    assert not (job.folder / "submit-1.json").exists()
    # A command that comes again does nothing: the claim is kept.
    run(1)
    ran = tmp_path / "ran"
    assert ran.exists() == (point in ("submit:after", "submit:done"))
    if not ran.exists():
        run(2)
    assert ran.read_text() == "ran\n"


@pytest.mark.slow
def test_doubled_command_downloads_once(job: Job):
    command = [sys.executable, "-m", "cts_core.worker.nersc", "attempt", str(job.folder), "upload"]
    plans = [job.plan(root="/", files=[], insecure=False) for _ in range(2)]
    running = [subprocess.Popen([*command, "1", str(plan)], cwd=ROOT) for plan in plans * 2]
    assert [helper.wait() for helper in running] == [0, 0, 0, 0]
    assert job.end(Step.UPLOAD) == StepEnd(is_done=True)
    assert sorted(path.name for path in job.folder.iterdir()) == ["upload-1.claim", "upload-1.json"]
    assert not list(job.plans.iterdir())
