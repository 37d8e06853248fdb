"""Every advice of ``%cts why`` is a command that works: situation, sentence, and the commands that it names."""

from __future__ import annotations

import re
import time

import pytest

from cts_jupyter.notebook.job import Job

pytestmark = pytest.mark.slow

AS_YAML = 'from cts_jupyter import job; print(job("JOB").as_yaml())'
ERR = "%cts logs JOB -c failed --err"
ENDED = {
    "exit code": (
        "fail", "-n 3", "Containers 0, 1, 2 ended with exit code 4",
        [ERR, "%cts resubmit JOB --failed --refresh-inputs", AS_YAML],
    ),
    "memory": (
        "eat", "--memory 60MB", "Container 0: It used .* its limit is 60 MB",
        [ERR, r"%cts resubmit JOB --failed --memory (1[2-9]|2\d)0MB"],
    ),
    "arguments": (
        "usage", "", "Its arguments are not what the program takes",
        [ERR, AS_YAML],
    ),
    "killed by the machine": (
        "killed", "", "Container 0 ended with exit code 137",
        [ERR, "%cts resubmit JOB --failed --memory 100MB", AS_YAML],
    ),
    "runtime": (
        "wait", "--runtime 1s", r"Container 0: It was stopped after .* its runtime limit is 1\.0 s\. Submit it again with a longer runtime \(exit code 143\)\.\n",
        [ERR, "%cts resubmit JOB --failed --runtime 2s"],
    ),
    "only stdout and stderr": (
        "print", "", "nothing was in /output_files at its end, and the program wrote to stdout and stderr alone",
        ["%cts logs JOB", AS_YAML],
    ),
    "nothing at all": (
        "nothing", "--output-mount /results", r"nothing was in /results at its end\.",
        [AS_YAML],
    ),
    "done": (
        "ok", "", r"and every output is stored with its checksum\.\n1 output in",
        ["%cts files JOB", "%cts get JOB FOLDER", "%cts verify JOB"],
    ),
    "overwritten outputs": (
        "ok", "-n 3", r"\nAll containers ended well, but not every output was kept\.\nWarning: More than one container wrote ",
        ["%cts files JOB", "%cts get JOB FOLDER", "%cts verify JOB"],
    ),
}  # fmt: skip


@pytest.fixture
def submit(shell, inputs, place):
    """Submit a job, which may ask for more than these options."""

    def submit_(mode, options=""):
        return shell(
            f"%cts submit host/tool -i {inputs} --output-dir {place}out/ --memory 50MB --runtime 1m {options} --overwrite "
            f"-- {mode} o.txt"
        )

    return submit_


def check_advice(shell, job: Job, sentence: str, commands: list[str]) -> None:
    """Check what is said of the job, and that every command that is named works."""
    said = shell(f"%cts why {job.id}")
    assert re.search(sentence, said), said
    named = said.splitlines()[-1].partition(": ")[2].split(", ")
    found = [command.replace(job.id[:8], "JOB") for command in named]
    assert len(found) == len(commands)
    for command, pattern in zip(found, commands, strict=True):
        assert command == pattern or re.fullmatch(pattern, command), said
    for command in named:
        ran = shell.run(command.replace("FOLDER", "got/"))
        assert ran.error is None, command
        if " logs " in command:
            assert ("err of" if "--err" in command else "out of") in ran.value
        elif isinstance(ran.value, Job):
            assert ran.value.details.parent_id == job.id
            ran.value.wait(60)
            # What it lacked, it has now.
            assert "--memory" not in command or "memory" not in str(ran.value.error)
        elif "as_yaml" in command:
            assert ran.out.startswith("%%cts submit\n")


@pytest.mark.parametrize("situation", ENDED)
def test_advice_about_a_job_that_has_ended(shell, submit, situation):
    mode, options, sentence, commands = ENDED[situation]
    check_advice(shell, submit(mode, options).wait(60), sentence, commands)


def test_advice_about_an_input_that_changed_before_it_was_fetched(
    shell, service, submit, inputs, tmp_path
):
    with service.client() as client:
        (site,) = [site for site in client.sites() if site.cluster == "local"]
    first = submit("wait", f"--cpus {site.cpus_per_node}")
    job = submit("ok")
    (tmp_path / "a.txt").write_text("changed")
    shell(f"%cts put a.txt {inputs} --overwrite")
    first.cancel()
    first.wait(60)
    check_advice(
        shell,
        job.wait(60),
        f"Container 0: .*'{inputs}a.txt' has changed: its CRC64/NVME checksum was",
        ["%cts resubmit JOB --failed --refresh-inputs"],
    )


def test_advice_about_live_and_cancelled_jobs(shell, submit, service):
    job = submit("wait")
    watch, follow, cancel = (
        shell(f"%cts why {job.id}").splitlines()[-1].partition(": ")[2].split(", ")
    )
    # A job that is cancelled before it runs has no logs.
    while "err of" not in str(shell.run(f"%cts logs {job.id} -c 0 --err").value):
        time.sleep(0.05)
    with service.client() as client:
        (site,) = [site for site in client.sites() if site.cluster == "local"]
    second = submit("wait", f"--cpus {site.cpus_per_node}")
    said = shell(f"%cts why {second.id}")
    # The records may not know yet that the first one has begun.
    turn = r"\nWaiting for its turn at local: (it is next|1 container before it)\.\nFree there now: \d+ cpus?\.\n"
    assert re.search(turn, said), said
    second.cancel()
    shell(cancel)
    shell(follow)
    assert "Cancelled" in str(shell.run(watch).error).title()
    said = shell(f"%cts why {job.id}")
    assert "It was cancelled" in said
    logs, resubmit = said.splitlines()[-1].removeprefix("Next: ").split(", ")
    assert "err of" in shell(logs)
    again = shell(resubmit)
    assert again.details.parent_id == job.id
    again.cancel()
    again.wait(60)
