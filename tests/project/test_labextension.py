"""The JupyterLab extension: its build, its types of the REST API, and what it is packed and listed as."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.harness.labextension import (
    BUILT,
    MAX_LOADER,
    MAX_START,
    MAX_START_PACKED,
    MAX_WIDGET_PACKED,
    NODE_PATH,
    SOURCES,
    WIDGETS,
    built_labextension,
    files_at_start,
    packed_size,
    read_files,
    size,
)
from tests.harness.paths import ROOT
from tests.services.server import or_skip

STATIC = "cts_jupyter/widgets/static/"
SHARED = "data/share/jupyter/labextensions/cts-jupyter/"


def api_types() -> str:
    program = "import sys; sys.path.insert(0, 'labextension'); import api_types; print(api_types.render(), end='')"
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.slow
def test_types_of_the_api_are_those_of_its_description():
    written = (SOURCES / "src" / "api" / "types.ts").read_text()
    assert written == api_types(), "run .venv/bin/python labextension/api_types.py"


def test_version_is_that_of_the_package():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert json.loads((SOURCES / "package.json").read_text())["version"] == version


def test_lock_names_no_registry():
    assert "://" not in (SOURCES / "yarn.lock").read_text()
    assert "registry" not in (SOURCES / ".yarnrc.yml").read_text().lower()


@pytest.fixture(scope="module")
def built() -> Path:
    with or_skip():
        return built_labextension()


def link(source: str, target: str) -> None:
    """Make a file another name of one, or a copy of it on another file system."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)


@pytest.mark.slow
def test_another_build_elsewhere_gives_the_same_bytes(built: Path, tmp_path: Path):
    sources = tmp_path / "labextension"
    # Links to its packages would be followed, and their places are part of what is built.
    shutil.copytree(SOURCES, sources, copy_function=link, symlinks=True)
    states = "cts_jupyter/states.json"
    (tmp_path / states).parent.mkdir(parents=True)
    shutil.copy(ROOT / states, tmp_path / states)
    subprocess.run(
        ["jupyter-builder", "build", str(sources)],
        env={**os.environ, "PATH": NODE_PATH},
        check=True,
        capture_output=True,
    )
    subprocess.run(["node", sources / "build_widget.mjs"], env={"PATH": NODE_PATH}, check=True)
    assert read_files(tmp_path / STATIC) == read_files(WIDGETS)
    again = read_files(tmp_path / "cts_jupyter" / "labextension")
    assert again.keys() == read_files(built).keys(), "make labextension builds what is stale"
    assert again == read_files(built)


@pytest.mark.slow
def test_page_loads_little_of_it_at_start(built: Path):
    files = files_at_start(built)
    assert len(files) > 1
    assert size(*files) <= MAX_START, "load what is not seen at once by src/lab/lazy.tsx"
    assert packed_size(*files) <= MAX_START_PACKED


def test_widget_brings_little_along(built: Path):
    assert size(WIDGETS / "loader.js") <= MAX_LOADER
    assert packed_size(WIDGETS / "panel.js") <= MAX_WIDGET_PACKED


@pytest.mark.slow
def test_wheel_and_sdist_hold_what_was_built(built: Path, tmp_path: Path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        env={"PATH": "/nonexistent"},
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        shared = {
            name.partition(SHARED)[2]: archive.read(name)
            for name in archive.namelist()
            if SHARED in name
        }
        packed = {
            name.removeprefix(STATIC): archive.read(name)
            for name in archive.namelist()
            if name.startswith(STATIC)
        }
    assert shared == read_files(built)
    assert packed == read_files(WIDGETS)
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {str((BUILT / name).relative_to(ROOT)) for name in read_files(built)} <= names
    assert {f"{STATIC}{name}" for name in packed} <= names
    assert {"hatch_build.py", "labextension/yarn.lock", "labextension/src/lab/index.ts"} <= names
    assert not [name for name in names if "node_modules" in name]


@pytest.mark.slow
def test_package_without_node_is_built_with_a_warning(tmp_path: Path):
    source = tmp_path / "source"
    built_elsewhere = shutil.ignore_patterns("node_modules", "labextension", "__pycache__")
    for folder in ("cts_core", "cts_jupyter", "jupyter-config", "notebooks"):
        shutil.copytree(ROOT / folder, source / folder, ignore=built_elsewhere)
    for file in ("pyproject.toml", "README.md", "LICENSE", "hatch_build.py"):
        shutil.copy(ROOT / file, source / file)
    (source / "labextension").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=source,
        check=True,
        env={"PATH": "/nonexistent"},
        capture_output=True,
        text=True,
    )
    assert "as snapshots instead of live cards" in done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "cts_jupyter/__init__.py" in names
    assert not [name for name in names if "labextension" in name]


@pytest.mark.slow
def test_jupyterlab_lists_it_as_enabled(built: Path, tmp_path: Path):
    extensions = tmp_path / "labextensions"
    extensions.mkdir()
    (extensions / "cts-jupyter").symlink_to(built)
    listed = subprocess.run(
        [sys.executable, "-m", "jupyter", "labextension", "list", "--verbose"],
        env={**os.environ, "JUPYTER_DATA_DIR": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
    )
    said = listed.stdout + listed.stderr
    version = json.loads((SOURCES / "package.json").read_text())["version"]
    assert any(
        "enabled" in line and f"cts-jupyter v{version}" in line for line in said.splitlines()
    )


def test_a_page_without_jupyterlab_has_each_variable_of_its_styles():
    theme = (SOURCES / "style" / "standalone.css").read_text("utf-8")
    sheets = "".join(path.read_text("utf-8") for path in (SOURCES / "style").glob("*.css"))
    used = set(re.findall(r"var\((--jp-[\w-]+)\)", sheets))
    assert used
    assert {name for name in used if f"{name}:" not in theme} == set()


def test_the_form_brings_its_styles_wherever_it_is_shown():
    for mount in ("widget/standalone.ts", "lab/lazy.tsx", "lab/page.ts"):
        assert 'components/form/styles"' in (SOURCES / "src" / mount).read_text("utf-8")
