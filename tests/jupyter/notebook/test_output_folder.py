"""A resubmission that would run what another of the same job runs, or ran."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cts_jupyter.client.client import CTSClient
from cts_jupyter.client.models import Container, Image, JobDetails
from cts_jupyter.client.resubmit import Overrides
from cts_jupyter.client.transport import CTSRequestError
from cts_jupyter.notebook.output_folder import find_repeated

CRC, NEW_CRC = "AAAAAAAAAAA=", "AAAAAAAAAAE="
PARENT, RIVAL = "a" * 36, "b" * 36
IMAGE = {"name": "host/tool", "digest": "sha256:0", "entrypoint": [], "registered_by": "ana", "registered_on": "2026-01-01T00:00:00Z"}  # fmt: skip
FAILED = Overrides(only_failed=True)


def make_job(
    job_id: str,
    state: str,
    numbers: tuple[int, ...],
    *,
    parent_id: str | None = None,
    checksum: str = CRC,
) -> JobDetails:
    files = [{"file": f"data/{number}", "crc64nvme": checksum} for number in numbers]
    return JobDetails.model_validate(
        {
            "id": job_id,
            "state": state,
            "user": "ana",
            "transition_times": [{"state": "created", "time": "2026-01-01T00:00:00Z"}],
            "input_file_count": len(files),
            "image": IMAGE,
            "parent_id": parent_id,
            "job_input": {
                "cluster": "local",
                "image": "host/tool",
                "params": {},
                "num_containers": len(files),
                "memory": 60_000_000,
                "runtime": "PT1M",
                "output_dir": f"data/out-of-{job_id[0]}/",
                "input_files": files,
            },
        }
    )


def make_rival(state: str = "complete", *, checksum: str = CRC) -> JobDetails:
    return make_job(RIVAL, state, (0, 2), parent_id=PARENT, checksum=checksum)


class Service:
    """A service with a job of three containers, of which the second succeeded, and resubmissions of it, the latest first."""

    def __init__(self, *rivals: JobDetails, outputs: int | Exception = 1) -> None:
        self.digest = "sha256:0"
        self.listings = 0
        self._jobs = {job.id: job for job in (*rivals, make_job(PARENT, "error", (0, 1, 2)))}
        self._outputs = outputs

    def supports(self, *_: str, **__: object) -> bool:
        return True

    def job_page(self, **_: object) -> SimpleNamespace:
        return SimpleNamespace(jobs=[*self._jobs.values()], next=None, is_cut=False)

    def job(self, job_id: str) -> JobDetails:
        return self._jobs[job_id]

    def containers(self, _: str) -> list[Container]:
        self.listings += 1
        states = {0: "error", 1: "complete", 2: "error"}
        return [
            Container.model_validate(
                {
                    "number": number,
                    "state": state,
                    "transition_times": [],
                    "inputs": [{"file": f"data/{number}", "crc64nvme": CRC}],
                }
            )
            for number, state in states.items()
        ]

    def image(self, _: str) -> Image:
        return Image.model_validate({**IMAGE, "digest": self.digest})

    def files(self, _: str, *, limit: int) -> SimpleNamespace:
        if isinstance(self._outputs, Exception):
            raise self._outputs
        return SimpleNamespace(objects=["data/o"] * min(self._outputs, limit))

    def repeated(self, overrides: Overrides = FAILED) -> str | None:
        return find_repeated(cast("CTSClient", self), PARENT, overrides)


@pytest.mark.parametrize("state", ["download_submitted", "complete"])
def test_a_resubmission_that_runs_or_has_left_its_outputs_is_not_repeated(state: str):
    said = Service(make_rival(state)).repeated()
    assert said is not None
    assert said.startswith("You submitted the same ")
    assert "its outputs are in data/out-of-b/: %cts status bbbbbbbb" in said


@pytest.mark.parametrize("state", ["error", "canceled", "canceling"])
def test_what_failed_or_was_cancelled_is_tried_again(state: str):
    assert Service(make_rival(state)).repeated() is None


@pytest.mark.parametrize(
    "changes",
    [{"memory": "70MB"}, {"containers": [2]}, {"only_failed": False}, {"output_dir": "data/x/"}],
    ids=str,
)
def test_another_request_is_no_repetition(changes: Mapping[str, Any]):
    overrides = Overrides(**{"only_failed": True, **changes})
    assert Service(make_rival()).repeated(overrides) is None


@pytest.mark.parametrize(
    ("state", "checksum", "is_refused"),
    [
        ("complete", NEW_CRC, False),
        ("job_submitted", NEW_CRC, True),
        # It took the inputs as they were before they were mended.
        ("job_submitted", CRC, False),
    ],
)
def test_inputs_are_refreshed_again_but_not_twice_at_once(
    state: str, checksum: str, *, is_refused: bool
):
    refreshed = Overrides(only_failed=True, refresh_inputs=True)
    service = Service(make_rival(state, checksum=checksum))
    assert (service.repeated(refreshed) is not None) is is_refused


def test_inputs_as_they_were_are_no_repetition_of_refreshed_ones():
    assert Service(make_rival("job_submitted", checksum=NEW_CRC)).repeated() is None


@pytest.mark.parametrize("state", ["job_submitted", "complete"])
def test_an_image_that_was_registered_anew_is_run(state: str):
    service = Service(make_rival(state))
    service.digest = "sha256:1"
    assert service.repeated() is None


@pytest.mark.parametrize("outputs", [0, CTSRequestError("not yours", status=403)])
def test_outputs_that_are_gone_or_out_of_reach_are_made_again(outputs: int | Exception):
    assert Service(make_rival(), outputs=outputs).repeated() is None


def test_an_outage_is_told_and_not_taken_for_a_folder_without_outputs():
    with pytest.raises(CTSRequestError, match="down"):
        Service(make_rival(), outputs=CTSRequestError("down", status=503)).repeated()


def test_a_rival_is_found_behind_others_with_one_look_at_the_containers():
    others = [make_job(str(number) * 36, "complete", (0,), parent_id=PARENT) for number in range(3)]
    service = Service(*others, make_rival())
    assert "as job bbbbbbbb" in str(service.repeated())
    assert service.listings == 1


def test_a_request_that_will_be_refused_is_left_to_the_service():
    wrong = Overrides(only_failed=True, containers=[1])
    assert Service(make_rival()).repeated(wrong) is None
