"""The example notebooks: which there are, and copies of them for a person to run and change.

``python -m cts_jupyter.examples.example FOLDER`` copies all of them, with their data, into a folder.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DATA = "data"
"""The name of the genomes that the notebooks use, and of their folder."""
_NAMES = (
    "quickstart",
    "two-thousand-files",
    "parameters",
    "reference-data",
    "failures",
    "from-the-old-client",
)
"""The notebooks, in the order in which they are read."""
_FOLDERS = (Path(__file__).parent / "notebooks", Path(__file__).parents[2] / "notebooks")
"""Where they are: in an installed package, and in a checkout."""


@dataclass(frozen=True)
class Example:
    """An example notebook."""

    name: str
    title: str
    summary: str

    @property
    def path(self) -> Path:
        """The notebook's file, which is not to be run in its place: that would change it."""
        return examples_folder() / f"{self.name}.ipynb"


def examples_folder() -> Path:
    """Return the folder of the notebooks and their data. Raises FileNotFoundError."""
    for folder in _FOLDERS:
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"The example notebooks are not there: {_FOLDERS[0]} is missing")


def find_examples() -> list[Example]:
    """Return the notebooks, in the order in which they are read."""
    return [_read(examples_folder() / f"{name}.ipynb") for name in _NAMES]


def _read(path: Path) -> Example:
    """Return a notebook with the title and the first paragraph of its first cell."""
    cell = json.loads(path.read_text(encoding="utf-8"))["cells"][0]
    title, summary, *_ = "".join(cell["source"]).split("\n\n")
    return Example(path.stem, title.lstrip("# "), " ".join(summary.split()))


def copy_example(name: str, folder: Path) -> dict[Path, bool]:
    """Copy a notebook, or the data, into a folder, and return each copy, and whether it is new: what is there stays as it is.

    Raises LookupError for a name that is none, and OSError.
    """
    if name != DATA and name not in _NAMES:
        raise LookupError(name)
    base = examples_folder()
    sources = sorted((base / DATA).iterdir()) if name == DATA else [base / f"{name}.ipynb"]
    copies = {}
    for source in sources:
        target = folder / source.relative_to(base)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with target.open("xb") as file:
                file.write(source.read_bytes())
        except FileExistsError:
            copies[target] = False
        else:
            copies[target] = True
    return copies


def main(arguments: Sequence[str] | None = None) -> int:
    """Copy all notebooks and their data into the folder that is named, and return the exit code."""
    (folder,) = sys.argv[1:] if arguments is None else arguments
    for name in (*_NAMES, DATA):
        copy_example(name, Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
