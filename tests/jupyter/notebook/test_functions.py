"""The public functions do what their magics do."""

from __future__ import annotations

import datetime as dt

import pytest

import cts_jupyter


@pytest.fixture
def fields(shell, inputs, place):
    return {
        "cluster": "local",
        "image": "host/tool",
        "input_files": [f"{inputs}a.txt"],
        "output_dir": f"{place}out/",
        "memory": "50MB",
        "runtime": "PT1M",
        "params": {"args": ["ok", "/output_files/o", "/input_files"]},
    }


@pytest.mark.slow
def test_check_submit_and_find(shell, fields, place):
    report = cts_jupyter.check(**fields)
    assert report.containers[0].argv[1:] == ["ok", "/output_files/o", "/input_files"]
    assert f"outputs in {place}out/" in repr(report)
    job = cts_jupyter.submit(**fields, labels={"study": "soil"}).wait(60)
    assert job.state == "complete"
    assert cts_jupyter.job().id == job.id
    assert cts_jupyter.job(job.id[:8]).id == job.id
    assert cts_jupyter.job(job.id).state == "complete"
    for filters in (
        {"text": place},
        {"text": place, "state": "done", "image": "TOOL"},
        {"text": place, "since": dt.timedelta(hours=1), "sort": "created"},
        {"text": place, "since": dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)},
        {"text": place, "since": "last week"},
        {"text": place, "labels": {"study": "soil"}},
    ):
        assert [found.id for found in cts_jupyter.jobs(**filters)] == [job.id], filters
    assert list(cts_jupyter.jobs(place, state="failed")) == []
    assert job.as_python().startswith("from cts_jupyter import submit\n")


@pytest.mark.slow
def test_containers_that_may_overwrite_each_other_have_a_warning(shell, fields, inputs):
    fields |= {"input_files": [f"{inputs}a.txt", f"{inputs}b.txt"], "num_containers": 2}
    with pytest.warns(UserWarning, match="All 2 containers store into one folder"):
        cts_jupyter.submit(**fields).wait(60)


@pytest.mark.slow
def test_files_of_a_job_are_tables_of_checksums_months_later(shell, service, fields, inputs, place):
    done = cts_jupyter.submit(**fields).wait(60)
    job = cts_jupyter.job(done.id)
    (given,) = job.inputs.to_frame().to_dict("records")
    assert given["file"] == f"{inputs}a.txt"
    assert given["CRC64/NVME"] == job.inputs[0].crc64nvme
    (made,) = job.outputs.to_frame().to_dict("records")
    crc64nvme = job.all_outputs()[0].crc64nvme
    assert made == {"file": f"{place}out/o", "container": 0, "CRC64/NVME": crc64nvme}
    (listed,) = job.files().to_frame().to_dict("records")
    assert listed == made
    assert [verdict.is_good for verdict in job.verify(family=True)] == [True]
    (service.objects / place / "out" / "o").write_text("other bytes")
    with pytest.raises(cts_jupyter.VerifyError, match="1 of 1 file not verified") as caught:
        job.verify()
    assert [verdict.path for verdict in caught.value.verdicts] == [f"{place}out/o"]


@pytest.mark.slow
def test_outputs_are_not_stored_among_others_unless_that_is_meant(shell, fields, place):
    cts_jupyter.submit(**fields, labels={"run": "1"}).wait(60)
    with pytest.raises(cts_jupyter.OutputFolderError, match="You submitted the same") as caught:
        cts_jupyter.submit(**fields)
    assert "overwrite=True" in str(caught.value)
    with pytest.raises(cts_jupyter.JobReferenceError, match="not accepted"):
        cts_jupyter.job()
    again = cts_jupyter.submit(**fields, overwrite=True).wait(60)
    with pytest.raises(cts_jupyter.OutputFolderError, match="is not empty"):
        again.resubmit(output_dir=f"s3://{place}out/")
    assert (
        again.resubmit(output_dir=f"s3://{place}out/", overwrite=True).wait(60).state == "complete"
    )
    found = cts_jupyter.jobs(f"s3://{place}", state=["done", "failed"])
    assert len(found) == len(cts_jupyter.jobs(place, state="live")) + 3


@pytest.mark.slow
def test_submission_that_is_refused_leaves_no_job_for_dash(shell, fields):
    job = cts_jupyter.submit(**fields).wait(60)
    assert cts_jupyter.job().id == job.id
    with pytest.raises(cts_jupyter.CTSRequestError):
        cts_jupyter.submit(**fields | {"image": "host/none"}, overwrite=True)
    with pytest.raises(cts_jupyter.JobReferenceError, match="not accepted"):
        cts_jupyter.job()
    again = job.resubmit().wait(60)
    assert cts_jupyter.job().id == again.id
    with pytest.raises(cts_jupyter.CTSRequestError):
        again.resubmit(only_failed=True)
    assert cts_jupyter.job().id == again.id, "a resubmission that is refused leaves it"


def test_errors(shell, fields):
    with pytest.raises(ValueError, match="'whenever' is no time: write 90s, 2d"):
        cts_jupyter.jobs(since="whenever")
    with pytest.raises(cts_jupyter.JobReferenceError, match="None of your jobs"):
        cts_jupyter.job("nothing-like-it")
    with pytest.raises(cts_jupyter.CTSRequestError):
        cts_jupyter.check(**fields | {"image": "host/none"})
    with pytest.raises(cts_jupyter.CTSClientError):
        cts_jupyter.check()
