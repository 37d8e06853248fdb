"""The cells that README.md and the tutorial print run as they are printed."""

import re
import shutil
import subprocess
import sys

import nbformat
import pytest
from jupyter_server.serverapp import ServerApp
from nbformat.v4 import new_code_cell, new_notebook

from cts_jupyter.examples import example
from tests.harness.paths import DOCS, ROOT

GENOMES = ROOT / "notebooks" / "data"
CELL = re.compile(r"^```i?python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def run_cells(cells, folder):
    kernel = {"name": "python3", "display_name": "Python 3"}
    notebook = new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, folder / "cells.ipynb")
    return subprocess.run(
        [sys.executable, "-m", "cts_jupyter.demo", folder / "cells.ipynb"],
        capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip


def test_make_lab_opens_a_copy_of_the_notebooks_beside_their_data(monkeypatch, tmp_path):
    recipe = (ROOT / "Makefile").read_text()
    (copied,) = re.findall(r"cts_jupyter\.examples\.example (.+)", recipe)
    (opened,) = re.findall(r"jupyter lab \$\(FLAGS\) (.+)", recipe)
    monkeypatch.chdir(tmp_path)
    assert example.main([copied]) == 0
    app = ServerApp(file_to_run=str(tmp_path / opened))
    assert app.root_dir == str(tmp_path / copied)
    assert len(list((tmp_path / copied / "data").glob("*.fna"))) == len(list(GENOMES.iterdir()))
    assert f"{copied}/" in (ROOT / ".gitignore").read_text().splitlines()


@pytest.mark.slow
def test_the_first_job_of_the_readme_fetches_its_output(tmp_path):
    shutil.copytree(GENOMES, tmp_path / "data")
    (source,) = CELL.findall((ROOT / "README.md").read_text())
    ran = run_cells([new_code_cell(source)], tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "1 job: Done" in ran.stdout
    table = (tmp_path / "results" / "stats.tsv").read_text()
    assert len(table.splitlines()) == 1 + len(list(GENOMES.glob("*.fna")))


def run_page(page, folder):
    shutil.copytree(GENOMES, folder / "data")
    cells = [new_code_cell(source.rstrip()) for source in CELL.findall(page.read_text())]
    ran = run_cells(cells, folder)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.slow
def test_the_guide_to_a_failed_job_gathers_the_outputs_of_all_inputs(tmp_path):
    said = run_page(DOCS / "how-to" / "mend-a-failed-job.md", tmp_path)
    assert "2 jobs: Done, Failed" in said or "2 jobs: Failed, Done" in said
    assert "soil_mag_03.fna is no FASTA file" in said
    assert "1 output in demo/stats-2/" in said
    tables = list((tmp_path / "gathered").rglob("*.tsv"))
    genomes = {path.read_text().splitlines()[1].split("\t")[0] for path in tables}
    assert genomes == {f"soil_mag_0{number}.fna" for number in (1, 2, 3)}


@pytest.mark.slow
def test_the_guide_to_pandas_reads_every_genome(tmp_path):
    said = run_page(DOCS / "how-to" / "outputs-into-pandas.md", tmp_path)
    assert "0 files downloaded, 3 there already" in said
    lines = (tmp_path / "stats.csv").read_text().splitlines()
    assert len(lines) == 1 + len(list(GENOMES.glob("*.fna")))


@pytest.mark.slow
def test_the_tutorial_of_a_tool_of_ones_own_ends_with_a_good_and_a_failed_job(tmp_path):
    said = run_page(DOCS / "tutorials" / "your-own-tool.md", tmp_path)
    assert "2 jobs: Failed, Done" in said
    assert sorted(path.name for path in (tmp_path / "counts").iterdir()) == [
        "counts_0.tsv", "counts_1.tsv", "counts_2.tsv",
    ]  # fmt: skip
    assert "UnicodeDecodeError" in said
