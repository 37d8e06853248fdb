"""Notebooks executed headless, as schedulers do."""

from __future__ import annotations

import re

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook
from traitlets.config import Config

from cts_jupyter.examples.example import copy_example, find_examples

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]


@pytest.fixture
def execute(shell, tmp_path):
    """Return a function that runs a notebook, or one of these cells, in a kernel whose sockets are files and need no ports."""
    sockets = {"transport": "ipc", "connection_file": str(tmp_path / "kernel.json")}

    def execute_(*cells, notebook=None):
        notebook = notebook or new_notebook(
            cells=[new_code_cell(source) for source in ["%load_ext cts_jupyter", *cells]]
        )
        config = Config({"ConnectionFileMixin": sockets})
        return NotebookClient(notebook, timeout=60, config=config).execute()

    return execute_


def test_failed_command_fails_the_notebook_with_one_line(execute, inputs, place):
    with pytest.raises(CellExecutionError, match=f"No file lies below {place}none/") as caught:
        execute(f"%cts verify {place}none/", "1 + 1")
    assert caught.value.traceback.splitlines()[-1].startswith("CTS: ")


def test_saved_card_shows_the_final_state(execute, inputs, place):
    notebook = execute(
        f"%cts submit host/tool -i {inputs} --output-dir {place}out/ --memory 50MB --runtime 1m -o job -- "
        "ok /output_files/o <files>",
        "job.wait(60).state",
        "1",
    )
    (card,) = [output for output in notebook.cells[1].outputs if "data" in output]
    assert "Done" in card.data["text/plain"]
    assert "1 output in" in card.data["text/html"]
    assert set(card.data["application/vnd.cts.job+json"]) == {"instance", "job", "service"}


EXAMPLES = [example.name for example in find_examples() if example.name != "quickstart"]
"""The quickstart is run by the demo's test."""
_COUNT = re.compile(r"^count = 2_000$", re.MULTILINE)


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_notebook_runs_where_it_was_copied_to(name, execute, service, tmp_path):
    (copy,) = copy_example(name, tmp_path)
    notebook = nbformat.read(copy, as_version=4)
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", ()):
            cell.source, found = _COUNT.subn("count = 50", cell.source)
            assert found == 1
    execute(notebook=notebook)
    assert {path.name for path in tmp_path.iterdir()} <= {copy.name, "data", "kernel.json"}
