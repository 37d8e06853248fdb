"""Benchmark of the answers about one large job, from documents of MongoDB to their bytes, compared with what FastAPI does for them.

The answers are the job with all its inputs and outputs, and its containers with theirs. FastAPI validates the same models from
the same documents, dumps them, and writes them as JSON. The time is that of the processor, so that other load of the machine
counts for little; nothing is started.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bson.raw_bson import RawBSONDocument
from harness import report, run, size
from pydantic import BaseModel

from cts_core.engine.views import container_views, job_view
from cts_core.model.job import Containers, Job, S3File
from cts_core.model.record import ContainerRecord, ContainerTransition
from cts_core.plan import split_evenly
from cts_core.records.mongo import documents, forward_compat
from cts_core.states import JobState
from cts_jupyter.server.http.encoding import encode_json
from tests.harness.factories import CRC, NOON, TO_COMPLETE, make_job_record, make_transition

FILES = size(10_000, 40)
CONTAINERS = size(1000, 4)
ROUNDS = size(10, 2)
FIELDS = ("state", "transition_times", "exit_code", "cpu_seconds", "wall_seconds", "max_memory", "outputs")  # fmt: skip


@dataclass
class Documents:
    """A job that has ended, and its containers, as the database has them."""

    job: RawBSONDocument
    containers: Sequence[RawBSONDocument]


def outputs(numbers: range) -> list[S3File]:
    return [S3File(file=f"data/out/genome_{n:06d}.tsv", crc64nvme=CRC) for n in numbers]


def make_documents() -> Documents:
    inputs = [{"file": f"data/in/genome_{n:06d}.fa", "crc64nvme": CRC} for n in range(FILES)]
    job = make_job_record(files=inputs, num_containers=CONTAINERS).model_copy(
        update={
            "state": JobState.COMPLETE,
            "transition_times": [make_transition(state=state, time=NOON) for state in TO_COMPLETE],
            "outputs": outputs(range(FILES)),
            "output_file_count": FILES,
        }
    )
    steps = [ContainerTransition(state=state, time=NOON) for state in TO_COMPLETE]
    each = FILES // CONTAINERS
    containers = [
        ContainerRecord(
            id=job.id,
            sub_id=number,
            state=JobState.COMPLETE,
            transition_times=steps,
            exit_code=0,
            outputs=outputs(range(number * each, (number + 1) * each)),
        )
        for number in range(CONTAINERS)
    ]
    return Documents(
        documents.from_job(job, None, exclusive_output_dir=False),
        [documents.from_container(container) for container in containers],
    )


def write(view: BaseModel) -> bytes:
    return encode_json(view, nulls=False, may_compress=False)[0]


def our_job(stored: Documents) -> bytes:
    return write(job_view(forward_compat.record(stored.job)))


def our_containers(stored: Documents) -> bytes:
    job = forward_compat.record(stored.job)
    records = list(map(forward_compat.container, stored.containers))
    return write(Containers.model_construct(containers=container_views(job, records), next=None))


def dump(model: type[BaseModel], values: Mapping[str, Any]) -> bytes:
    """Return an answer as FastAPI makes it."""
    answer = model.model_validate(values, extra="ignore")
    text = json.dumps(answer.model_dump(mode="json", exclude_none=True), separators=(",", ":"))
    return text.encode()


def their_job(stored: Documents) -> bytes:
    return dump(Job, documents.decode(stored.job))


def their_containers(stored: Documents) -> bytes:
    files = documents.decode(stored.job)["job_input"]["input_files"]
    containers = []
    for raw, inputs in zip(stored.containers, split_evenly(files, CONTAINERS), strict=True):
        found = documents.decode(raw)
        values = {name: found.get(name) for name in FIELDS}
        containers.append({**values, "number": found["sub_id"], "inputs": list(inputs)})
    return dump(Containers, {"containers": containers})


ANSWERS = {
    f"a job of {FILES:,} inputs and outputs": (our_job, their_job),
    f"{CONTAINERS:,} containers with them": (our_containers, their_containers),
}


def measure(make: Callable[[Documents], bytes], stored: Documents) -> float:
    start = time.process_time()
    make(stored)
    return time.process_time() - start


def main() -> None:
    stored = make_documents()
    for what, (ours, theirs) in ANSWERS.items():
        if json.loads(ours(stored)) != json.loads(theirs(stored)):
            raise SystemExit(f"the two answers of {what} differ")
        best = [min(measure(make, stored) for _ in range(ROUNDS)) for make in (ours, theirs)]
        report(
            what,
            f"{best[0] * 1000:.1f} ms of the processor, {best[1] / best[0]:.2f} times as fast as FastAPI's way",
            time_ms=best[0] * 1000,
            ratio=best[1] / best[0],
        )


if __name__ == "__main__":
    run(main)
