"""``%cts ls``, ``status``, ``why`` and ``logs`` against a real service."""

from __future__ import annotations

import threading
import time

import pytest

from cts_jupyter.client import search
from cts_jupyter.client.transport import CTSRequestError
from cts_jupyter.notebook import last_submission
from cts_jupyter.notebook.job import Job
from cts_jupyter.notebook.magics import jobs as jobs_magics

ASKED = "--memory 50MB --runtime 1m"


@pytest.fixture
def submit(shell, inputs, place):
    """Submit a job."""

    def submit_(args="ok /output_files/o_<n>.txt <files>", *, out="out/", options=""):
        return shell(
            f"%cts submit host/tool -i {inputs} --output-dir {place}{out} {ASKED} {options} -- {args}"
        )

    return submit_


@pytest.mark.slow
def test_ls_filters(shell, submit, place):
    good = submit(options="--label study=soil-1").wait(60)
    bad = submit("fail /output_files/o", out="bad/").wait(60)
    found = shell(f"%cts ls {place}")
    assert [job.id for job in found] == [bad.id, good.id]
    assert good.id[:8] in repr(found)
    assert "Failed" in found._repr_html_()
    assert list(found.to_frame()["state"]) == ["error", "complete"]
    for line, expected in [
        (f"%cts ls {place} --state failed", [bad]),
        (f"%cts ls {place} --state complete", [good]),
        (f"%cts ls {place} --state ended", [bad, good]),
        (f"%cts ls {place} --state live", []),
        ("%cts ls --label study=soil-1", [good]),
        (f"%cts ls {good.id[:9]}", [good]),
        (f"%cts ls {place} --image TOOL --since 1h", [bad, good]),
        (f"%cts ls {place} --image other", []),
        (f"%cts ls {place} --image host/tool", [bad, good]),
        (f"%cts ls {place} --image host/too", []),
        ("%cts ls --image host/tool:latest --label study=soil-1", [good]),
        (f"%cts ls {place} --sort created", [bad, good]),
        (f"%cts ls {place} --since 0.000001s", []),
        (f"%cts ls {place} --until 1d", []),
        (f"%cts ls {place} --since 'last week' --until today", [bad, good]),
        (f"%cts ls {place} --until 'last week'", []),
    ]:
        assert [job.id for job in shell(line)] == [job.id for job in expected], line
    assert "no jobs" in repr(shell(f"%cts ls {place} --image other"))


@pytest.mark.slow
def test_search_over_several_pages(shell, submit, place, service, monkeypatch):
    jobs = [submit(out=f"{n}/").wait(60) for n in range(3)]
    ids = [job.id for job in reversed(jobs)]
    monkeypatch.setattr(search, "_PAGE", 1)
    assert [job.id for job in shell(f"%cts ls {place}")] == ids
    assert [job.id for job in shell(f"%cts ls {place} --state done --image TOOL")] == ids
    with service.client() as client:
        found = search.find_jobs(client, search.JobQuery(text=place), limit=2)
        assert [job.id for job in found.jobs] == ids[:2]
        assert found.notes == [
            "Only the first 2 are shown; --since, --state or a text narrows them down"
        ]
        assert search.find_jobs(client, search.JobQuery(text=place), limit=3).notes == []
        monkeypatch.setattr(search, "_MAX_SCANNED", 2)
        found = search.find_jobs(client, search.JobQuery(text=place, image="TOOL"))
        assert [job.id for job in found.jobs] == ids[:2]
        assert found.notes == [
            "Only 2 jobs were looked at; --since, --state or a text narrows them down"
        ]


@pytest.mark.slow
def test_ls_counts(shell, submit):
    submit().wait(60)
    table = shell("%cts ls --counts")
    counted = {(count.cluster, count.state): count.count for count in table}
    assert counted["local", "complete"] >= 1
    assert f"{counted['local', 'complete']:,}" in repr(table)
    assert "leave out everything else" in shell.refusal("%cts ls --counts text")


@pytest.mark.slow
def test_ls_new_lists_each_ended_job_once(shell, submit, place):
    shell("%cts ls --new")
    job = submit().wait(60)
    other = submit(out="other/").wait(60)
    some = shell(f"%cts ls --new {place}other")
    assert [new.id for new in some] == [other.id]
    assert "They stay new" in repr(some)
    assert [new.id for new in shell("%cts ls --new")] == [other.id, job.id]
    assert len(shell("%cts ls --new")) == 0


@pytest.mark.slow
def test_job_references(shell, submit):
    job = submit()
    for line in (
        f"%cts status {job.id}",
        f"%cts status {job.id[:8]}",
        "%cts status -",
        "%cts status",
    ):
        assert shell(line).id == job.id
    shell.names["mine"] = job
    assert shell("%cts status $mine").id == job.id
    submit(out="other/").wait(60)
    assert "jobs begin with ''" in shell.refusal("%cts why ''")
    assert "No job with ID" in shell.refusal("%cts why 00000000-0000-4000-8000-000000000000")
    job.wait(60)


@pytest.mark.slow
def test_dash_is_what_this_notebook_submitted_last(shell, service, submit, inputs, place):
    submitted = submit(out="first/").wait(60)
    with service.client() as client:
        elsewhere = client.submit(
            {
                "image": "host/tool", "input_files": [f"{inputs}a.txt"], "output_dir": f"{place}elsewhere/",
                "cluster": "local", "memory": "50MB", "runtime": 60, "params": {"args": ["ok", "/output_files/o"]},
            }
        )  # fmt: skip
    assert shell("%cts status -").id == submitted.id
    got = shell.run("%cts get - results/")
    assert f"- is job {submitted.id[:8]}" in got.out
    # A submission with --watch was accepted although its job failed.
    shell.refusal(
        f"%cts submit host/tool -i {inputs} --output-dir {place}w/ {ASKED} --watch -- fail /output_files/o"
    )
    assert shell("%cts status -").has_ended
    last_submission._last = None
    assert shell("%cts status -").id not in (submitted.id, elsewhere)
    last_submission.note_accepted("another service", submitted.id)
    assert shell("%cts status -").id != submitted.id


@pytest.mark.slow
def test_submission_that_is_refused_leaves_no_job_for_dash(shell, submit, inputs, place):
    job = submit().wait(60)
    for harmless in ("submit --check", "submit --nope --help", "check --nope", "nope"):
        shell.run(f"%cts {harmless}")
        assert shell("%cts status -").id == job.id, harmless
    accepted = last_submission.last_submission()
    for line in (
        f"%cts submit host/none -i {inputs} --output-dir {place}o/ {ASKED}",
        f"%cts submit host/tool -i {inputs} --output-dir {place}o/",
        f"%cts submit host/tool -i {place}none/ --output-dir {place}o/ {ASKED}",
        "%cts submit host/tool -i $inptus",
        "%cts submit host/tool --nope",
        "%cts submit 'open",
        "%%cts submit\nimage: [",
    ):
        last_submission._last = accepted
        shell.refusal(line)
        assert "not accepted, so that - is no job" in shell.refusal("%cts get - results/"), line
    for command in (
        "verify -",
        "files -",
        "status",
        "watch",
        "resubmit -",
        "why -",
        "logs",
        "cancel -",
    ):
        refusal = shell.refusal(f"%cts {command}")
        assert "not accepted, so that - is no job" in refusal
        assert f"{job.id[:8]} for the job before it" in refusal
    assert shell(f"%cts status {job.id[:8]}").id == job.id


@pytest.mark.slow
def test_resubmission_that_is_refused_leaves_the_job_for_dash(shell, submit, place):
    job = submit().wait(60)
    for line in (
        "%cts resubmit - --nope",
        "%cts resubmit - --memory",
        "%cts resubmit - 'open",
        "%cts resubmit - --memory 999GB",
        "%cts resubmit - --failed",
        f"%cts resubmit - --output-dir {place}out/",
        "%cts resubmit nope",
    ):
        shell.refusal(line)
        assert shell("%cts status -").id == job.id, line
    with pytest.raises(CTSRequestError):
        job.resubmit(memory="999GB")
    assert shell("%cts status -").id == job.id
    again = shell("%cts resubmit -").wait(60)
    assert again.details.parent_id == job.id
    assert shell("%cts status -").id == again.id


def test_status_is_text_in_a_terminal(shell, submit, place):
    job = submit(options="-n 3").wait(60)
    text = shell.run(f"%cts status {job.id}").out
    assert f"Job {job.id[:8]}  Done  host/tool" in text
    assert "3 of 3 containers done" in text
    assert f"3 outputs in {place}out/" in text
    assert job.outputs[0].crc64nvme in text


@pytest.mark.slow
def test_why_explains_each_state(shell, submit, service):
    done = submit().wait(60)
    assert "%cts verify" in shell(f"%cts why {done.id}")
    bad = submit("fail /output_files/o_<n>", out="bad/", options="-n 3").wait(60)
    said = shell(f"%cts why {bad.id}")
    assert "Containers 0, 1, 2 ended with exit code 4" in said
    assert "    err of " in said
    assert f"%cts resubmit {bad.id[:8]} --failed" in said
    live = submit("wait /output_files/o", out="live/")
    assert f"%cts cancel {live.id[:8]}" in shell(f"%cts why {live.id}")
    live.cancel()
    live.wait(60)
    assert "It was cancelled" in shell(f"%cts why {live.id}")


@pytest.mark.slow
def test_job_of_which_some_containers_wait_is_told_alike_everywhere(shell, submit, service, place):
    with service.client() as client:
        (site,) = [site for site in client.sites() if site.cluster == "local"]
        # One container has all cpus, and the others wait for it.
        options = f"-n 3 --cpus {site.cpus_per_node}"
        job = submit("wait /output_files/o_<n>", options=options)
        deadline = time.monotonic() + 60
        # The job hears of its containers by events, the others ask the service.
        while [c.state for c in client.containers(job.id)].count(
            "job_submitted"
        ) != 1 or job.state != "job_submitted":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert client.job(job.id).state == "download_submitted", "the REST API keeps its states"
        looked_up = Job(job._session, job.id)
        (listed,) = shell(f"%cts ls {place}")
        assert {looked_up.state, listed.state, job.state} == {"job_submitted"}
        assert list(shell(f"%cts ls {place}").to_frame()["state"]) == ["job_submitted"]
        assert [found.id for found in shell(f"%cts ls {place} --state job_submitted")] == [job.id]
        assert list(shell(f"%cts ls {place} --state download_submitted")) == []
        assert " Running " in repr(shell(f"%cts ls {place}"))
        assert "\nAs of 20" in repr(shell(f"%cts ls {place}"))
        assert ": Running>" in repr(looked_up)
        assert "  Running  " in looked_up.describe()
        assert "is: Running" in shell(f"%cts why {job.id}")
        card = looked_up._card()
        begun = min(
            step.time
            for container in client.containers(job.id)
            for step in container.transition_times
            if step.state == "job_submitted"
        )
        assert ("job_submitted", begun) in card.timeline
        job.cancel()
    assert job.wait(60).state == "canceled"


@pytest.mark.slow
def test_logs(shell, submit, inputs):
    job = submit("fail /output_files/o_<n>.txt", options="-n 3 --env NUMBER=<n>").wait(60)
    assert shell(f"%cts logs {job.id}").startswith("out of ")
    assert shell(f"%cts logs {job.id} -c 2 --err").startswith("err of ")
    assert f"Container 1 ({inputs}b.txt):" in shell.run(f"%cts logs {job.id}").out
    failed = shell(f"%cts logs {job.id} -c failed --err")
    assert failed.startswith("err of ")
    assert failed.count("err of") == 1
    assert job.logs(1, stderr=True) == failed
    assert "must be 1 or more" in shell.refusal(f"%cts logs {job.id} --tail 0")
    assert "Container number must be < 3" in shell.refusal(f"%cts logs {job.id} -c 3")
    assert "container's number" in shell.refusal(f"%cts logs {job.id} -c x")
    good = submit(out="good/").wait(60)
    assert "has failed" in shell.refusal(f"%cts logs {good.id} -c failed")


def test_an_empty_log_names_the_other_one(shell, submit, monkeypatch):
    job = submit().wait(60)
    monkeypatch.setattr(jobs_magics, "read_log", lambda *_, **__: "")
    assert "to stdout: --err shows stderr" in shell(f"%cts logs {job.id}")
    assert "to stderr: without --err, stdout is shown" in shell(f"%cts logs {job.id} --err")


def test_failed_containers_name_their_inputs_and_come_first(shell, submit, inputs, place):
    job = submit(
        "fail /output_files/o_<n>.txt", options="-n 3 --env NUMBER=<n> --label study=soil-1"
    ).wait(60)
    bad = f"{inputs}b.txt"
    said = shell(f"%cts why {job.id}")
    assert f"\nContainer 1 ended with exit code 4.\nInput: {bad}\n" in said
    assert f"  Input: {bad}" in job.describe()
    assert f"Container 1 ({bad}):" in shell.run(f"%cts logs {job.id} -c failed --err").out
    table = job.containers
    assert [container.number for container in table] == [1, 0, 2]
    assert "b.txt" in repr(table).splitlines()[1]
    assert table.to_frame()["inputs"][0] == [bad]
    listed = repr(shell(f"%cts ls {place}")).splitlines()
    assert listed[2].startswith(
        "    labels: study=soil-1; error: Container 1 ended with exit code 4"
    )
    assert max(map(len, listed[2:])) <= 100


def test_logs_of_several_failed_containers(shell, submit, inputs):
    job = submit("fail /output_files/o_<n>.txt", options="-n 3").wait(60)
    said = shell(f"%cts logs {job.id} -c failed")
    assert [line for line in said.splitlines() if line.startswith("---")] == [
        f"--- container 0 ({inputs}a.txt)",
        f"--- container 1 ({inputs}b.txt)",
        f"--- container 2 ({inputs}c.txt)",
    ]


@pytest.mark.parametrize("follow", ["", " -f"])
def test_log_sends_no_escape_sequences_to_the_terminal(shell, submit, follow):
    job = submit("colors /output_files/o").wait(60)
    assert "\x1b]0;title\x07" in job.logs()
    said = shell.run(f"%cts logs {job.id}{follow}").out
    assert r"green \x1b]0;title\x07" in said
    assert all(char.isprintable() or char == "\n" for char in said)


@pytest.mark.slow
def test_followed_log_ends_with_the_container(shell, submit):
    job = submit("wait /output_files/o")
    ended = threading.Thread(target=lambda: (_wait_for_output(job), job.cancel()))
    ended.start()
    out = shell.run(f"%cts logs {job.id} -f").out
    ended.join()
    assert out.startswith("out of ")
    assert job.wait(60).state == "canceled"


def _wait_for_output(job):
    while not job.logs():
        pass


@pytest.mark.slow
def test_watch_of_several_jobs_is_one_list_that_ends_with_a_summary(shell, submit):
    jobs = [
        submit("ok /output_files/o_<n>", options=f"-n 3 --overwrite {one}")
        for one in ("", "--cpus 1")
    ]
    ran = shell.run(f"%cts watch {jobs[0].id} {jobs[1].id}")
    assert ran.error is None, ran.out
    last = ran.out.splitlines()
    assert last[-1] == "2 jobs: 2 done"
    assert last[-2].split()[:5] == [jobs[1].id[:8], "Done", "3", "of", "3"]
    bad = submit("fail /output_files/o", options="--overwrite")
    said = shell.refusal(f"%cts watch {jobs[0].id} {bad.id}")
    assert said.startswith(f"1 of 2 jobs not complete: job {bad.id[:8]} (failed)")
