"""Notebooks executed headless, as schedulers do."""

from __future__ import annotations

import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook
from traitlets.config import Config

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]


@pytest.fixture
def execute(shell, tmp_path):
    """Return a function that runs a notebook with these cells, in a kernel whose sockets are files and need no ports."""
    sockets = {"transport": "ipc", "connection_file": str(tmp_path / "kernel.json")}

    def execute_(*cells):
        notebook = new_notebook(
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
    assert set(card.data["application/vnd.cts.job+json"]) == {"job", "service"}
