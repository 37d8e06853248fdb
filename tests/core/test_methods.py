"""The paragraph on a job for a paper."""

from __future__ import annotations

import hashlib
from datetime import timedelta

from cts_core.methods import describe_methods, files_digest
from cts_core.model.job import S3File
from cts_core.model.parameters import Parameters
from cts_core.states import JobState
from cts_core.version import VERSION
from tests.harness.factories import (
    CRC,
    NOON,
    make_image,
    make_job_record,
    make_refdata,
    make_transition,
)

FILES = {"type": "input_files", "input_files_format": "space_separated_list", "flag": "--input="}
ARGS = ["--threads", "8", FILES]


def make_job(**changes):
    job = make_job_record(
        files=[{"file": f"data/in/{name}", "crc64nvme": CRC} for name in "ba"],
        params={"args": ARGS, "environment": {"OUT": {"type": "container_number"}, "X": "y"}},
        num_containers=2,
        cpus=8,
        memory="40GB",
        runtime=3600,
        registered=make_image(entrypoint=["tool", "a b"]),
    )
    ended = make_transition(state=JobState.COMPLETE, time=NOON + timedelta(hours=2))
    return job.model_copy(
        update={
            "state": JobState.COMPLETE,
            "transition_times": [*job.transition_times, ended],
            "cpu_hours": 1.5,
            "max_memory": 9_900_000_000,
            "max_anonymous_memory": 7_900_000_000,
            "outputs": [S3File(file="data/out/x", crc64nvme=CRC)],
            "output_file_count": 2,
            **changes,
        }
    )


def test_complete_job():
    job = make_job()
    said = describe_methods(job, make_refdata(id="r1"))
    image = job.image
    digest = hashlib.sha256(f"data/in/a\t{CRC}\ndata/in/b\t{CRC}\n".encode()).hexdigest()
    outputs = hashlib.sha256(f"data/out/x\t{CRC}\n".encode()).hexdigest()
    assert said == (
        f"Job {job.id} ran in the CDM Task Service at the site local, from 2026-03-04 12:00:00 UTC to 2026-03-04 14:00:00 UTC. "
        f"The image {image.name}:{image.tag} ({image.digest}) ran in 2 containers, each with 8 cpus, 40 GB of memory and a "
        "runtime of at most 1 h, as: tool 'a b' --threads 8 --input=<files> (with OUT=<n>, X=y). There, <files> are the "
        "input files of a container, and <n> is the number of a container, from 0. "
        "The inputs were 2 files; the list of paths and CRC64/NVME checksums, with a line PATH<TAB>CHECKSUM for each, "
        f"sorted, has the SHA-256 {digest}. "
        f"The reference data were data/ref/db.tar.gz (CRC64/NVME {CRC}, registered as r1). "
        "It used 1 h 30 min of cpu time and at most 7.9 GB of memory in a container. "
        "Its 2 outputs in data/out/ have CRC64/NVME checksums, too; their list, written in the same way, has the SHA-256 "
        f"{outputs}. "
        f"This was written by version {VERSION} of CTS for Jupyter."
    )
    assert files_digest(job.job_input.files) == digest


def test_job_that_is_not_complete_says_so():
    failed = make_job(state=JobState.ERROR, output_file_count=None)
    assert "It did not complete: its state was error." in describe_methods(failed, None)
    live = describe_methods(make_job(state=JobState.JOB_SUBMITTED), None)
    assert (
        ", since 2026-03-04 12:00:00 UTC. It did not complete: its state was job_submitted." in live
    )
    assert "reference data" not in live


def test_resubmission_names_its_parent_and_the_family():
    said = describe_methods(make_job(parent_id="p"), None, ["p", "q", "r"])
    assert (
        "It is a resubmission of job p. Together, the jobs p, q, r, of which each after the first"
        in said
    )
    parent = describe_methods(make_job(), None, ["p", "q"])
    assert "It is a resubmission" not in parent
    assert "Together, the jobs p, q, of which" in parent
    alone = describe_methods(make_job(), None, ["p"])
    assert "resubmission" not in alone


def test_single_input_and_words_that_are_not_used():
    job = make_job()
    alone = job.job_input.model_copy(
        update={"input_files": job.job_input.files[:1], "params": Parameters(args=["x", "-i"])}
    )
    said = describe_methods(job.model_copy(update={"job_input": alone}), None)
    assert "The input was 1 file; the list of paths" in said
    assert "There, " not in said
