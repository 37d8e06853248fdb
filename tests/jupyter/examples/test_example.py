"""The example notebooks: that they are whole, and copies of them."""

from __future__ import annotations

import nbformat
import pytest

from cts_jupyter.examples.example import copy_example, examples_folder, find_examples


def test_notebooks_are_those_of_the_folder_and_have_no_outputs():
    examples = find_examples()
    assert {example.path for example in examples} == set(examples_folder().glob("*.ipynb"))
    for example in examples:
        assert example.title
        assert example.summary.endswith(".")
        notebook = nbformat.read(example.path, as_version=4)
        nbformat.validate(notebook)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert code
        assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


def test_copies_leave_what_is_there_as_it_is(tmp_path):
    (tmp_path / "quickstart.ipynb").write_text("mine")
    assert copy_example("quickstart", tmp_path) == {tmp_path / "quickstart.ipynb": False}
    assert (tmp_path / "quickstart.ipynb").read_text() == "mine"
    assert all(copy_example("data", tmp_path).values())
    (tmp_path / "data" / "soil_mag_01.fna").unlink()
    copied = copy_example("data", tmp_path)
    assert [path.name for path, is_new in copied.items() if is_new] == ["soil_mag_01.fna"]
    for path in copied:
        assert path.read_bytes() == (examples_folder() / "data" / path.name).read_bytes()
    with pytest.raises(LookupError):
        copy_example("../pyproject", tmp_path)
