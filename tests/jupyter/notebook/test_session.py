"""``%cts`` in a kernel that was not started by a server with CTS: it has the service's URL and a token."""

from __future__ import annotations

import os

import pytest
from IPython.utils.capture import capture_output

ASKED = "--memory 50MB --runtime 1m"


@pytest.fixture
def elsewhere(shell, service, monkeypatch, tmp_path):
    """Return the shell with the service's URL and token in its environment."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("CDM_TASK_SERVICE_URL", service.file.url)
    monkeypatch.setenv("KBASE_AUTH_TOKEN", service.file.token)
    return shell


def test_token_is_read_at_each_request(elsewhere, service, monkeypatch):
    monkeypatch.delenv("KBASE_AUTH_TOKEN")
    assert "KBASE_AUTH_TOKEN" in elsewhere.refusal("%cts whoami")
    # White space around the token is ignored.
    monkeypatch.setenv("KBASE_AUTH_TOKEN", f"{service.file.token}\n")
    assert str(elsewhere("%cts whoami")).startswith("You are ana (full_admin) at 127.0.0.1:")


def test_local_files_to_verified_outputs(elsewhere, service, place, tmp_path):
    for name in ("a.txt", "b c.txt"):
        (tmp_path / name).write_text(name)
    elsewhere(f"%cts put a.txt 'b c.txt' {place}in/")
    elsewhere.names["inputs"] = [f"{place}in/a.txt", f"{place}in/b c.txt"]
    job = elsewhere(
        f"%cts submit host/tool -i $inputs --output-dir {place}out/ {ASKED} -n 2 "
        "-- ok /output_files/o_<n>.txt <files>"
    ).wait(60)
    assert [[file.file for file in c.inputs] for c in job.containers] == [
        [path] for path in elsewhere.names["inputs"]
    ]
    assert [verdict.is_good for verdict in elsewhere(f"%cts verify {job.id}")] == [True, True]
    got = elsewhere(f"%cts get {job.id} results/")
    assert ["/b c.txt" in path.read_text() for path in got] == [False, True]
    assert elsewhere(f"%cts logs {job.id} -c 1").startswith("out of ")
    with capture_output() as captured:
        job._ipython_display_()
    shown = repr([output.data for output in captured.outputs]) + captured.stdout
    assert job.id[:8] in shown
    assert service.file.token not in shown


@pytest.mark.parametrize("token", ["sec\nret", "s\u00e9cret", "sec\x00ret"])
def test_malformed_token_is_not_disclosed(elsewhere, monkeypatch, token):
    # A real environment cannot contain a null byte.
    monkeypatch.setattr(
        "cts_jupyter.discovery.os.environ", {**os.environ, "KBASE_AUTH_TOKEN": token}
    )
    said = elsewhere.refusal("%cts ls")
    assert "KBASE_AUTH_TOKEN" in said
    assert "sec" not in said


def test_invalid_token(elsewhere, monkeypatch):
    monkeypatch.setenv("KBASE_AUTH_TOKEN", "something-else")
    said = elsewhere.refusal("%cts ls")
    assert "token" in said
    assert "something-else" not in said


def test_service_not_found(elsewhere, monkeypatch):
    monkeypatch.setenv("CDM_TASK_SERVICE_URL", "http://127.0.0.1:1/cts")
    assert "cannot be reached" in elsewhere.refusal("%cts ls")
    monkeypatch.delenv("CDM_TASK_SERVICE_URL")
    assert "CDM_TASK_SERVICE_URL" in elsewhere.refusal("%cts ls")
