"""``%cts submit``, ``check``, ``resubmit``, ``watch``, ``cancel`` against a real service."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from cts_jupyter.client.event_feed import EventFeed
from cts_jupyter.client.transport import CTSConnectionError
from cts_jupyter.notebook.check_report import CheckReport
from cts_jupyter.notebook.job import Job
from cts_jupyter.notebook.magics import submit as submit_magics
from cts_jupyter.notebook.output_folder import OutputFolderError

ASKED = "--memory 50MB --runtime 1m"


@pytest.fixture
def submit(inputs, place):
    """Return a function that makes the line of a submission."""

    def line(
        args="ok /output_files/o_<n>.txt <files>", *, out="out/", options="", command="submit"
    ):
        return f"%cts {command} host/tool -i {inputs} --output-dir {place}{out} {ASKED} {options} -- {args}"

    return line


@pytest.mark.slow
def test_submit_line_to_verified_outputs(shell, submit, place):
    job = shell(submit(options="-n 2 -o job --label study=soil"))
    assert isinstance(job, Job)
    assert shell.names["job"] is job
    assert job.wait(60).state == "complete"
    assert [output.file for output in job.outputs] == [f"{place}out/o_0.txt", f"{place}out/o_1.txt"]
    assert [v.is_good for v in shell("%cts verify $job")] == [True, True]
    paths = shell("%cts get $job results/")
    assert [path.name for path in paths] == ["o_0.txt", "o_1.txt"]
    assert [name[-6:] for name in paths[0].read_text().split()[1:]] == ["/a.txt", "/b.txt"]
    frame = job.files()
    assert list(frame["CRC64/NVME"]) == [output.crc64nvme for output in job.outputs]
    assert [c.exit_code for c in job.containers] == [0, 0]
    assert job.error is None


@pytest.mark.slow
def test_line_and_cell_build_the_same_job(shell, submit, inputs, place):
    by_line = shell(
        submit("ok /output_files/x.txt --x=4 <files:comma>", options="-n 3 --declobber")
    )
    by_line.wait(60)
    shell.names["files"] = shell(f"%cts files {inputs}")
    by_cell = shell(
        f"""%%cts submit -o cell
cluster: local
image: host/tool
input_files: $files
output_dir: {place}out/
num_containers: ${{len(files)}}
memory: 50MB
runtime: 1m
params:
  declobber: true
  args: [ok, /output_files/x.txt, --x, 4, <files:comma>]
""".replace("-o cell", "-o cell --overwrite")
    )
    assert by_cell is shell.names["cell"]
    assert by_cell.details.job_input == by_line.details.job_input
    by_cell.wait(60)


def test_line_of_a_cell_overrides_it(shell, inputs, place):
    report = shell(
        f"%%cts check --memory 60MB -i {inputs}a.txt -- ok /output_files/y\n"
        f"image: host/tool\noutput_dir: {place}o/\nmemory: 50MB\nruntime: PT1M\nparams:\n  args: [other]\n"
        "  environment: {E: r<n>}\n"
    )
    assert report.containers[0].argv[1:] == ["ok", "/output_files/y"]
    assert report.containers[0].environment == {"E": "r0"}


@pytest.mark.slow
def test_check_shows_the_plan_and_stores_nothing(shell, submit, place):
    before = len(shell("%cts ls"))
    report = shell(submit("ok /output_files/o --x=4 <files>", options="-n 2", command="check"))
    assert isinstance(report, CheckReport)
    assert report.containers[0].argv[1:4] == ["ok", "/output_files/o", "--x"]
    text = repr(report)
    assert "Container 1:" in text
    assert "--x=4 runs as two words" in text
    assert "CPU hours" in text
    assert any("declobber" in warning for warning in report.warnings)
    assert repr(shell(submit(options="--check"))).startswith("This job can be submitted")
    assert len(shell("%cts ls")) == before
    assert len(shell(f"%cts files {place}out/")) == 0


@pytest.mark.slow
def test_containers_that_may_overwrite_each_other_have_a_warning(shell, submit):
    args = "ok /output_files/stats.tsv <files>"
    report = repr(shell(submit(args, options="-n 3", command="check")))
    assert report.splitlines()[1].startswith("Warning: All 3 containers store into one folder")
    submitted = shell.run(submit(args, options="-n 3"))
    assert "Warning: All 3 containers store into one folder" in submitted.out
    job = submitted.value.wait(60)
    assert len(job.outputs) == 1
    (warning,) = job.details.warnings
    assert "stats.tsv" in warning
    named = shell.run(submit(options="-n 3", out="named/"))
    assert "Warning" not in named.out
    assert len(named.value.wait(60).outputs) == 3


@pytest.mark.slow
def test_missing_memory_and_runtime_are_suggested(shell, submit, inputs, place):
    unused = shell.refusal(
        f"%cts submit host/never -i {inputs} --output-dir {place}o/ --memory 1GB"
    )
    assert unused.startswith("--runtime is missing")
    job = shell(submit())
    job.wait(60)
    said = shell.refusal(f"%cts submit host/tool -i {inputs} --output-dir {place}o/")
    assert said.startswith("--memory and --runtime are missing")
    assert "--memory 50MB --runtime 1m" in said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("%cts submit", "IMAGE, input files (-i, -g or --tsv), --output-dir, --memory and --runtime are missing"),
        ("%cts submit host/nothing -i {inputs} --output-dir {place}o/ {asked}", "%cts images"),
        ("%cts submit host/tool -i {inputs}none --output-dir {place}o/ {asked}", "patterns go with -g"),
        ("%cts submit host/tool -i {place}none/ --output-dir {place}o/ {asked}", "No file lies below"),
        ("%cts submit host/tool -i {inputs} -g *.fna --output-dir {place}o/ {asked}", "matches '*.fna'"),
        ("%cts submit host/tool -g *.fna --output-dir {place}o/ {asked}", "needs a folder to pick from"),
        ("%cts submit host/tool -i $inptus --output-dir {place}o/ {asked}", "no variable named 'inptus'"),
        ("%cts submit host/tool -i {inputs} --output-dir {place}o/ {asked} -- a,b", "'a,b'"),
        ("%cts submit host/tool -i {inputs} --output-dir {place}o/ {asked} -n 9", "-n must be less than or equal to the number of input files"),
        ("%cts submit host/tool -i {inputs} --output-dir {place}o/ --memory x --runtime 1m", "memory"),
        ("%cts submit host/tool -i {inputs} --output-dir {place}o/ --memory 1GB --runtime soon", "duration"),
        ("%cts submit host/tool -i {inputs} --output-dir {place}o/ {asked} --cluster mars", "cluster"),
        ("%cts submit host/tool --tsv none.tsv --output-dir {place}o/ {asked}", "none.tsv"),
        ("%cts submit host/tool --nope", "%cts submit has no option --nope: the program's own arguments go after --. Write: %cts submit host/tool -- --nope"),
        ("%%cts submit\nimage: host/tool", "input_files, output_dir, memory and runtime are missing"),
        ("%%cts submit\n- a", "key: value"),
        ("%%cts ls\nx", "takes no cell"),
        ("%cts ls -- x", "no use for words after '--'"),
        ("%cts nothing", "no command 'nothing'"),
        ("%cts status zzz", "begins with 'zzz'"),
        ("%cts status 00000000-0000-4000-8000-000000000000", "No job with ID"),
        ("%cts get {place}none/x .", "none/x"),
        ("%cts ls --since 99999999999999d", "further back than any job"),
        ("%cts ls --since 900000d", "further back than any job"),
        ("%cts ls --since last week", "'last' is no time: write 90s, 2d, '3 weeks'"),
        ("%cts submit 'open", "not closed"),
    ],
)  # fmt: skip
def test_error_is_one_line_with_advice(shell, inputs, place, line, said):
    # Only the test's own placeholders: other braces of a line are Python's.
    for name, value in {"inputs": inputs, "place": place, "asked": ASKED}.items():
        line = line.replace(f"{{{name}}}", value)
    refusal = shell.refusal(line)
    assert said in refusal
    assert "\n" not in refusal


def test_input_without_checksum_is_refused_until_computed(shell, service, place):
    path = service.objects / place / "in" / "by-hand.txt"
    path.parent.mkdir(parents=True)
    path.write_text("by hand")
    line = f"%cts submit host/tool -i {place}in/ --output-dir {place}out/ {ASKED} -- ok /output_files/o"
    assert "%cts checksum PATH --write" in shell.refusal(line)
    missing = shell(f"%cts files {place}in/ --missing -o todo")
    assert [file.path for file in missing] == [f"{place}in/by-hand.txt"]
    assert "1 checksum computed and stored" in repr(shell("%cts checksum $todo --write"))
    assert shell(line).wait(60).state == "complete"
    assert "nothing to do" in repr(
        shell(f"%cts files {place}in/ --missing -o todo\n%cts checksum $todo")
    )


def test_nonempty_output_folder_is_refused(shell, submit, place):
    shell(submit()).wait(60)
    other = submit("ok /output_files/other <files>")
    assert f"{place}out/ is not empty" in shell.refusal(other)
    assert "You submitted the same" in shell(submit(command="check")).warnings[0]
    assert "You submitted" not in repr(shell(submit(command="check", options="--overwrite")))
    (warning,) = [w for w in shell(submit("other", command="check")).warnings if "/out/" in w]
    assert f"{place}out/ is not empty" in warning
    said = shell.refusal(submit())
    assert said.startswith("You submitted the same ")
    assert "(done)" in said
    assert shell(submit(options="--overwrite")).wait(60).state == "complete"


def test_folder_of_a_live_job_is_refused_before_anything_is_in_it(shell, submit, place):
    live = shell(submit("wait /output_files/o", out="out/deep"))
    assert f"Your job {live.id[:8]} (" in shell.refusal(submit())
    assert f"Warning: Your job {live.id[:8]} (" in repr(shell(submit(command="check")))
    said = shell.refusal(submit("wait /output_files/o", out="out/deep/"))
    assert said.startswith("You submitted the same ")
    assert f"as job {live.id[:8]} (" in said
    assert f"Your job {live.id[:8]} (" in shell.refusal(
        f"%cts resubmit {live.id} --output-dir {place}out/"
    )
    shell(submit(out="outer/")).wait(60)
    live.cancel()
    live.wait(60)
    again = shell(submit("wait /output_files/o", out="out/deep"))
    again.cancel()
    again.wait(60)


def test_submission_that_is_not_shown_prints_its_job(shell, submit):
    ran = shell.run(f"job = {submit()}")
    (line,) = ran.out.splitlines()
    assert re.fullmatch(rf"Job {shell.names['job'].id[:8]}: [A-Z][\w ]+", line)
    shell.names["job"].wait(60)


def test_job_is_bound_when_its_watch_is_interrupted_or_it_cannot_be_followed(
    shell, submit, monkeypatch
):
    def interrupt(_job):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Job, "wait", interrupt)
        assert "the jobs go on" in shell.refusal(submit(options="--watch -o job"))
    assert shell("%cts status -").id == shell.names["job"].id
    assert shell("%cts watch -") is None

    def lose(_feed, _job_id, _listener):
        raise CTSConnectionError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(EventFeed, "subscribe", lose)
        shell(f"job = {submit(out='other/')}")
        job = shell.names["job"]
        assert job.state
    job.wait(60)


def test_tsv_and_globs(shell, inputs, place, tmp_path):
    (tmp_path / "in.tsv").write_text(f"file\tdata_id\n{inputs}a.txt\tid 1\n{inputs}b.txt\tid 2\n")
    line = (
        "%cts check host/tool {} --output-dir " + f"{place}out/ {ASKED} -- ok /output_files/o {{}}"
    )
    report = shell(line.format("--tsv in.tsv", "'<manifest:data_ids:my ids>'"))
    assert report.containers[0].manifest == "my ids\nid 1\nid 2\n"
    report = shell(line.format(f"-i {inputs}c.txt -g '{inputs}[ab].txt'", "<files>"))
    assert [f.file[-5:] for f in report.containers[0].files] == ["c.txt", "a.txt", "b.txt"]
    report = shell(line.format(f"-i {place} -g '?.txt'", "<files>"))
    assert len(report.containers[0].files) == 3


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("{a}\t1\n\n{b}\t2\tx\ty\n", "Line 3 of in.tsv has 4 columns"),
        ("{a}\t1\n\t2\n", "Line 2 of in.tsv has no path"),
        ("file\tname\n{a}\t1\n", "There is no column 'name': there are file, data_id, crc64nvme"),
        ("\n\t\n", "names no file"),
    ],
)
def test_table_that_says_no_inputs_is_refused(shell, inputs, place, table, said):
    Path("in.tsv").write_text(table.format(a=f"{inputs}a.txt", b=f"{inputs}b.txt"))
    line = f"%cts check host/tool --tsv in.tsv --output-dir {place}out/ {ASKED}"
    assert said in shell.refusal(line)
    Path("in.tsv").write_bytes(b"\xff\xe4")
    assert "in.tsv is no UTF-8 text: save it as UTF-8" in shell.refusal(line)


def test_data_ids_of_a_table_reach_the_manifest_as_they_are(shell, inputs, place, tmp_path):
    ids = ['"E. coli', 'K-12"', '"Ca." x']
    table = "".join(f"{inputs}{n}.txt\t{id_}\n" for n, id_ in zip("abc", ids, strict=True))
    (tmp_path / "in.tsv").write_text(table, encoding="utf-8-sig")
    report = shell(
        f"%cts check host/tool --tsv in.tsv --output-dir {place}out/ {ASKED} -- <manifest:data_ids>"
    )
    assert report.containers[0].manifest.splitlines() == ids


def test_watch_of_a_failed_job_fails_the_cell(shell, submit):
    said = shell.refusal(submit("fail /output_files/o", options="--watch -o bad"))
    assert said.startswith("1 of 1 job not complete: job ")
    assert shell.names["bad"].state == "error"
    assert "%cts why" in said
    assert shell.run("%cts watch -").error is not None
    assert shell.run(submit(out="good/", options="--watch")).error is None


def test_warnings_are_printed_before_the_watch(shell, submit, monkeypatch):
    monkeypatch.setattr(submit_magics, "watch_jobs", lambda _: print("watching"))
    ran = shell.run(submit("ok /output_files/o", options="-n 2 --watch"))
    assert ran.error is None
    assert (
        0
        <= ran.out.find("Warning: All 2 containers store into one folder")
        < ran.out.find("watching")
    )


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Restore the handler of interrupts, as in a kernel: programs that a shell runs in the background ignore them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
def test_interrupted_watch_does_not_cancel_the_job(shell, submit, monkeypatch, interrupts):
    job = shell(submit("wait /output_files/o"))
    watched = threading.Event()
    wait = Job.wait
    monkeypatch.setattr(Job, "wait", lambda job, *limit: watched.set() or wait(job, *limit))

    def interrupt():
        watched.wait()
        while job.state != "job_submitted":
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    assert "the jobs go on" in shell.refusal(f"%cts watch {job.id}")
    assert job.state == "job_submitted"
    assert "is being cancelled" in shell.run(f"%cts cancel {job.id[:8]}").out
    assert job.wait(60).state == "canceled"
    assert "can be canceled" in shell.refusal(f"%cts cancel {job.id}")


@pytest.mark.slow
def test_job_that_has_ended_does_not_keep_others_from_being_canceled(shell, submit):
    ended = shell(submit()).wait(60)
    live = shell(submit("wait /output_files/o", out="live/"))
    ran = shell.run(f"%cts cancel {ended.id} {live.id}")
    assert f"Job {live.id[:8]} is being cancelled" in ran.out
    assert ended.id in str(ran.error)
    assert live.id not in str(ran.error)
    assert live.wait(60).state == "canceled"


@pytest.mark.slow
def test_resubmit_failed_containers_only(shell, submit, inputs, place):
    job = shell(
        submit("fail /output_files/o_<n>.txt", options="-n 3 --env NUMBER=<n> --label study=soil")
    )
    assert job.wait(60).state == "error"
    checked = shell("%cts resubmit - --failed --memory 60MB --runtime 2m --check")
    assert f"1 file (1 B) in 1 container, outputs in {place}out-2/" in repr(checked)
    assert "Each container has 1 cpu, 60 MB of memory and 2 min of time" in repr(checked)
    assert [file.file for file in checked.containers[0].files] == [f"{inputs}b.txt"]
    again = job.check_resubmission(only_failed=True, output_dir=f"s3://{place}else/")
    assert f"outputs in {place}else/" in repr(again)
    assert [listed.id for listed in shell(f"%cts ls {place}")] == [job.id]
    again = shell("%cts resubmit - --failed --memory 60MB --runtime 2m")
    details = again.details
    assert [file.file for file in details.job_input.input_files] == [f"{inputs}b.txt"]
    assert details.job_input.num_containers == 1
    assert details.job_input.memory == 60_000_000
    assert details.job_input.output_dir == f"{place}out-2/"
    assert details.labels == {"study": "soil"}
    assert details.parent_id == job.id
    assert again.wait(60).state == "complete"
    names = [f"{place}{out}" for out in ("out-2/o_0.txt", "out/o_0.txt", "out/o_2.txt")]
    assert [output.file for output in job.outputs] == names[1:]
    assert [output.file for output in again.all_outputs()] == names
    assert [output.job_id for output in job.all_outputs()] == [again.id, job.id, job.id]
    assert [file.path for file in shell(f"%cts files {again.id} --family")] == names
    for command in (f"files {place}", f"verify {place}", f"get {place} got/"):
        assert "is a path" in shell.refusal(f"%cts {command} --family")
    assert [verdict.path for verdict in shell(f"%cts verify {job.id} --family")] == names
    got = [path.as_posix() for path in shell(f"%cts get {job.id} got/ --family")]
    assert got == ["got/out-2/o_0.txt", "got/out/o_0.txt", "got/out/o_2.txt"]
    assert f"a resubmission of job {job.id[:8]}" in shell(f"%cts why {again.id}")
    # What was mended by a resubmission needs no other.
    said = shell(f"%cts why {job.id}")
    assert f"Resubmissions have completed all its inputs: %cts files {job.id[:8]} --family" in said
    assert "%cts resubmit" not in said
    third = again.resubmit()
    assert third.details.job_input.output_dir == f"{place}out-3/"
    third.wait(60)
    assert "No container" in shell.refusal(f"%cts resubmit {again.id} --failed")
    assert "is not empty" in shell.refusal(f"%cts resubmit {again.id} --output-dir {place}out-2/")
    checked = shell(f"%cts resubmit {again.id} --output-dir {place}out-2/ --check")
    assert any("is not empty" in warning for warning in checked.warnings)
    assert "No container" in shell.refusal(f"%cts resubmit {again.id} --failed --check")


@pytest.mark.slow
def test_resubmission_that_is_repeated_is_refused_unless_that_is_meant(shell, submit, place):
    job = shell(submit("fail /output_files/o_<n>.txt", options="-n 3 --env NUMBER=<n>")).wait(60)
    line = f"%cts resubmit {job.id} --failed --runtime 2m"
    again = shell(line)
    said = shell.refusal(line)
    assert said.startswith("You submitted the same ")
    assert f"as job {again.id[:8]} (" in said
    assert f"{place}out-2/: %cts status" in said
    again.wait(60)
    # Its outputs are there.
    assert f"as job {again.id[:8]} (done)" in shell.refusal(line)
    assert "You submitted the same" in shell(f"{line} --check").warnings[0]
    assert "You submitted" not in repr(shell(f"{line} --check --overwrite"))
    with pytest.raises(OutputFolderError, match="You submitted the same"):
        job.resubmit(only_failed=True, runtime=timedelta(minutes=2))
    other = shell(f"%cts resubmit {job.id} --failed --runtime 3m").wait(60)
    third = shell(f"{line} --overwrite").wait(60)
    assert [other.details.parent_id, third.details.parent_id] == [job.id, job.id]


@pytest.mark.slow
def test_a_resubmission_warns_where_it_has_no_more_of_what_was_lacking(shell, submit):
    job = shell(submit("wait /output_files/o", options="--runtime 1s")).wait(60)
    assert job.state == "error"
    lacking = "failed for want of runtime with 1.0 s, and these ask for no more"
    with pytest.warns(UserWarning, match=lacking):
        job.resubmit(only_failed=True).wait(60)
    again = shell.run(f"%cts resubmit {job.id} --failed --overwrite")
    assert f"Warning: Containers {lacking}" in again.out
    again.value.wait(60)
    more = shell.run(f"%cts resubmit {job.id} --failed --runtime 2s")
    assert "Warning" not in more.out
    more.value.wait(60)


@pytest.mark.slow
def test_an_accepted_resubmission_is_returned_though_no_warning_can_be_found(
    shell, submit, monkeypatch
):
    job = shell(submit("fail /output_files/o")).wait(60)

    def fail(*_: object) -> None:
        raise CTSConnectionError("the service went away")

    monkeypatch.setattr("cts_jupyter.notebook.check_report.find_failed", fail)
    assert job.resubmit(only_failed=True).wait(60).details.parent_id == job.id


@pytest.mark.slow
def test_resubmission_of_a_live_job_as_it_is_is_refused(shell, submit):
    live = shell(submit("wait /output_files/o"))
    said = shell.refusal("%cts resubmit -")
    assert f"as job {live.id[:8]} (" in said
    live.cancel()
    live.wait(60)


@pytest.mark.slow
def test_containers_are_chosen_of_those_that_failed(shell, submit, inputs):
    job = shell(submit("fail /output_files/o <files>", options="-n 2"))
    assert job.wait(60).state == "error"
    checked = shell("%cts resubmit - --failed --containers 1 --check")
    assert [file.file for file in checked.containers[0].files] == [
        file.file for file in job.containers[1].inputs
    ]
    assert "add --failed" in shell.refusal("%cts resubmit - --containers 1")
    assert "such as 1,3" in shell.refusal("%cts resubmit - --failed --containers one")
    assert "Container 7" in shell.refusal("%cts resubmit - --failed --containers 0,7")


@pytest.mark.slow
def test_resubmit_with_a_changed_input(shell, submit, inputs, tmp_path):
    job = shell(submit("fail /output_files/o <files>", options="-n 2"))
    job.wait(60)
    (tmp_path / "a.txt").write_text("mended")
    shell(f"%cts put a.txt {inputs} --overwrite")
    refusal = shell.refusal(f"%cts resubmit {job.id} --failed")
    assert f"The input '{inputs}a.txt' has changed since job {job.id}" in refusal
    assert "NMVE" not in refusal
    ran = shell.run(f"%cts resubmit {job.id} --failed --refresh-inputs")
    assert "Warning: All 2 containers store into one folder" in ran.out
    again = ran.value.details.job_input.input_files[0]
    assert (again.file, again.crc64nvme) == (
        f"{inputs}a.txt",
        shell(f"%cts files {inputs}a.txt")[0].crc64nvme,
    )
    with pytest.warns(UserWarning, match="All 2 containers store into one folder"):
        job.resubmit(refresh_inputs=True, overwrite=True).cancel()
    ran.value.wait(60)


@pytest.mark.slow
def test_line_of_a_job_made_by_a_pattern_is_the_pattern(shell, submit, inputs, place):
    line = f"%cts submit host/tool -g '{inputs}[ab]*' --output-dir {place}out/ --memory 50MB --runtime 1m -- ok /output_files/o"
    job = shell(line)
    assert job.as_line().startswith(f"%cts submit host/tool -g '{inputs}[ab]*' --output-dir")
    again = shell(shell(f"%cts status {job.id}").as_line().replace(" --", " --overwrite --", 1))
    assert (
        again.wait(60).details.job_input.input_files == job.wait(60).details.job_input.input_files
    )
    by_name = shell(line.replace(f"-g '{inputs}[ab]*'", f"--overwrite -i {inputs}a.txt")).wait(60)
    assert f" -i {inputs}a.txt " in by_name.as_line()
    said = shell(f"%cts methods {job.id}")
    assert said == job.methods()
    assert f"Job {job.id} ran in the CDM Task Service at the site local, from " in said
    assert "The inputs were 2 files;" in said


@pytest.mark.slow
def test_serialized_job_submits_the_same(shell, submit, tmp_path):
    job = shell(submit("ok /output_files/o_<n>.txt --x 4 -i <files:repeat>", options="-n 2"))
    job.wait(60)
    wanted = job.details.job_input
    for again in (
        shell(job.as_line().replace(" --", " --overwrite --", 1)),
        shell(job.as_line(tsv=tmp_path / "in.tsv").replace(" --", " --overwrite --", 1)),
        shell(job.as_yaml().replace("%%cts submit", "%%cts submit --overwrite")),
        shell(job.as_python().replace("submit(\n", "submit(\n    overwrite=True,\n") + "\njob"),
    ):
        assert again.details.job_input == wanted
        again.wait(60)


def test_wait_timeout_does_not_cancel_the_job(shell, submit):
    job = shell(submit("wait /output_files/o"))
    with pytest.raises(TimeoutError, match=job.id[:8]):
        job.wait(0.01)
    job.cancel()
    assert job.wait(60).state == "canceled"


def test_local_variables_of_a_function_are_expanded(shell, inputs, place):
    shell("def count(where):\n    table = %cts files $where -g {'?.txt'}\n    return len(table)\n")
    assert shell(f"count('{inputs}')") == 3


def test_image_that_is_not_text_is_refused(shell):
    assert "memory is missing" in shell.refusal(
        "%%cts submit\nimage: 1\ninput_files: [data/x]\noutput_dir: data/out/\nruntime: 1m"
    )


def test_cell_takes_folders_as_input_files(shell, inputs, place):
    asked = f"image: host/tool\noutput_dir: {place}out/\nmemory: 50MB\nruntime: 1m\n"
    for named in (inputs, f"[{inputs}]", f"s3://{inputs}"):
        report = shell(f"%%cts check\n{asked}input_files: {named}")
        paths = [file.file for file in report.containers[0].files]
        assert paths == [f"{inputs}{name}.txt" for name in "abc"]


def test_submission_warns_of_arguments_by_which_nothing_is_found(shell, inputs, place):
    ran = shell.run(
        f"%cts submit host/tool -i {inputs} --output-dir {place}out/ --memory 50MB --runtime 1m -- nothing /output_file/o"
    )
    assert "Warning: No argument or variable names the input files" in ran.out
    assert "Warning: /output_file/o is written out, and /output_files is the mount point" in ran.out
    ran.value.wait(60)


def test_files_alone_lists_where_to_look(shell, inputs):
    for line in ("%cts files", "%cts files /"):
        assert inputs.partition("/")[0] + "/" in [root.path for root in shell(line)]
