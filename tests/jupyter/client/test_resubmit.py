"""Resubmissions that are put together here, for a service that makes none."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cts_jupyter.client.client import CTSClient
from cts_jupyter.client.models import Container, JobDetails
from cts_jupyter.client.resubmit import Overrides, ResubmitError, resubmission

FAILED = Overrides(only_failed=True, output_dir="data/again/")


def job() -> JobDetails:
    return JobDetails.model_validate(
        {
            "id": "0123456789",
            "state": "error",
            "user": "ana",
            "transition_times": [],
            "input_file_count": 3,
            "image": {"name": "host/tool", "digest": "sha256:0", "entrypoint": [], "registered_by": "ana", "registered_on": "2026-01-01T00:00:00Z"},
            "job_input": {
                "cluster": "local",
                "image": "host/tool",
                "params": {},
                "num_containers": 3,
                "memory": 60_000_000,
                "runtime": "PT1M",
                "output_dir": "data/out/",
                "input_files": ["data/0", "data/1", "data/2"],
            },
        }
    )  # fmt: skip


def client() -> CTSClient:
    states = ["error", "complete", "error"]
    containers = [
        Container.model_validate(
            {"number": n, "state": state, "transition_times": [], "inputs": [{"file": f"data/{n}"}]}
        )
        for n, state in enumerate(states)
    ]
    return cast("CTSClient", SimpleNamespace(containers=lambda _: containers))


def files(body: dict[str, Any]) -> list[str]:
    return [file["file"] for file in body["input_files"]]


def test_failed_containers_or_those_chosen_of_them_are_resubmitted():
    body = resubmission(client(), job(), FAILED)
    assert (files(body), body["num_containers"]) == (["data/0", "data/2"], 2)
    chosen = Overrides(only_failed=True, output_dir="data/again/", containers=[2])
    body = resubmission(client(), job(), chosen)
    assert (files(body), body["num_containers"]) == (["data/2"], 1)
    wrong = Overrides(only_failed=True, output_dir="data/again/", containers=[2, 1])
    with pytest.raises(ResubmitError, match="Container 1 of job 01234567 completed"):
        resubmission(client(), job(), wrong)


def test_what_overrides_set_stands_in_the_submission():
    changes = Overrides(memory="70MB", runtime=timedelta(minutes=2), output_dir="data/again/")
    body = resubmission(client(), job(), changes)
    changed = {name: body[name] for name in ("memory", "runtime", "output_dir")}
    assert changed == {"memory": "70MB", "runtime": "PT2M", "output_dir": "data/again/"}
    assert changes.on({"cpus": 3})["cpus"] == 3
    assert Overrides().on({"memory": 1}) == {"memory": 1}


def test_containers_are_chosen_only_among_those_that_failed():
    with pytest.raises(ResubmitError, match=r"add --failed \(only_failed=True"):
        Overrides(containers=[2])
