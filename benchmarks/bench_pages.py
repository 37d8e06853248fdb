"""Benchmark of pages of jobs, from documents of MongoDB to the bytes of the answer, compared with what FastAPI does for them.

That is: it validates the same models from the same documents, dumps them, and writes them as JSON. The time is that of the
processor, so that other load of the machine counts for little; nothing is started.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from bench_job import dump
from bson.raw_bson import RawBSONDocument
from harness import report, run, size

from cts_core.engine.views import list_view
from cts_core.model.job import Jobs
from cts_core.model.preview import JobPage
from cts_core.model.record import JobQuery
from cts_core.records.mongo import documents, forward_compat
from cts_jupyter.server.http.encoding import encode_json
from tests.harness.factories import NOON, TO_COMPLETE, make_job_record, make_transition

PAGES = size((100, 1000), (10,))
ROUNDS = size(10, 2)


def make_document(number: int, *, is_alike: bool) -> RawBSONDocument:
    """Return what a listing reads of a job that has ended; jobs alike differ in their output folders alone."""
    steps = [
        make_transition(state=state, time=NOON + timedelta(seconds=index))
        for index, state in enumerate(TO_COMPLETE)
    ]
    job = make_job_record(files=1, output_dir=f"data/out/{number}").model_copy(
        update={"state": TO_COMPLETE[-1], "transition_times": steps, "output_file_count": 3}
    )
    document = documents.decode(documents.from_job(job, None, exclusive_output_dir=False))
    del document["job_input"]["input_files"]
    if not is_alike:
        document["job_input"]["params"]["args"].insert(0, f"sample_{number}")
    return documents.encode(document)


def forget() -> None:
    """Forget what earlier pages left parsed."""
    forward_compat.parse_listed.cache_clear()
    documents.write_input_without_folder.cache_clear()
    documents.write_image.cache_clear()


def ours(page: Sequence[RawBSONDocument]) -> bytes:
    view = list_view(JobPage(jobs=forward_compat.listed(page)), JobQuery())
    return encode_json(view, nulls=False, may_compress=False)[0]


def fastapi(page: Sequence[RawBSONDocument]) -> bytes:
    jobs: list[dict[str, Any]] = []
    for raw in page:
        job = documents.decode(raw)
        jobs.append({name: value for name, value in job.items() if not name.startswith("_")})
    return dump(Jobs, {"jobs": jobs})


def measure(
    make: Callable[[Sequence[RawBSONDocument]], bytes], page: Sequence[RawBSONDocument]
) -> float:
    start = time.process_time()
    make(page)
    return time.process_time() - start


def main() -> None:
    for jobs, is_alike in itertools.product(PAGES, (True, False)):
        page = [make_document(number, is_alike=is_alike) for number in range(jobs)]
        if json.loads(ours(page)) != json.loads(fastapi(page)):
            raise SystemExit("the two answers differ")
        took: dict[str, list[float]] = {"": [], ", listed before": [], "fastapi": []}
        for _ in range(ROUNDS):
            forget()
            took[""].append(measure(ours, page))
            took[", listed before"].append(measure(ours, page))
            took["fastapi"].append(measure(fastapi, page))
        best = {name: min(each) for name, each in took.items()}
        of_fastapi = best.pop("fastapi")
        for name, seconds in best.items():
            report(
                f"pages of {jobs:,} jobs{name if is_alike else name + ', with other arguments each'}",
                f"{seconds * 1000:.1f} ms of the processor, {of_fastapi / seconds:.2f} times as fast as FastAPI's way",
                time_ms=seconds * 1000,
                ratio=of_fastapi / seconds,
            )


if __name__ == "__main__":
    run(main)
