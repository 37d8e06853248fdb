"""``python -m cts_jupyter.demo``: the quickstart executed headless, and its failures."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tests.harness.paths import WRITE_ARGUMENTS

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]


def run_demo(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "cts_jupyter.demo", *arguments],
        capture_output=True, text=True, timeout=100, check=False, env={**os.environ, **environment},
    )  # fmt: skip


def test_demo_runs_and_cleans_up(tmp_path):
    ran = run_demo(
        TMPDIR=str(tmp_path), CTS_HOME="/nowhere", CDM_TASK_SERVICE_URL="http://127.0.0.1:1/cts"
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "1 job: Done" in ran.stdout
    assert len(re.findall(r"http://127\.0\.0\.1:[1-9]\d*/cts", ran.stdout)) == 2, (
        "of the start and of whoami"
    )
    assert "good: the bytes match" in ran.stdout
    assert "marine_mag_02.fna" in ran.stdout
    assert list(tmp_path.iterdir()) == []
    assert ran.stderr == ""


def test_failing_demo_reports_and_cancels_its_jobs(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").write_text("x")
    notebook = new_notebook(
        cells=[
            new_code_cell(
                "%load_ext cts_jupyter\n%cts put data/x demo/in/\n"
                f"%cts images --register host/tool --executable {WRITE_ARGUMENTS}"
            ),
            new_code_cell(
                "%cts submit host/tool -i demo/in/ --output-dir demo/out/ --memory 50MB --runtime 1m -o job -- "
                "wait /output_files/o\nwhile job.state != 'job_submitted':\n    pass"
            ),
            new_code_cell("%cts status nothing-like-it"),
        ],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    nbformat.write(notebook, tmp_path / "bad.ipynb")
    folder = tmp_path / "tmp"
    folder.mkdir()
    ran = run_demo(str(tmp_path / "bad.ipynb"), TMPDIR=str(folder))
    assert ran.returncode == 1
    assert "The demo failed. This cell failed: None of your jobs" in ran.stdout
    assert list(folder.iterdir()) == []
    assert (
        subprocess.run(["pgrep", "-f", str(folder)], capture_output=True, check=False).stdout == b""
    )
