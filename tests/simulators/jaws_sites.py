"""A simulator of JAWS at its sites: the command ``jaws`` at NERSC, which submits to central, and what runs the runs.

Each site has its own copy of the reference data. What nobody could verify of JAWS (docs/reference/contract-jaws.md §17) is so, or
otherwise, as a test sets it.
"""

from __future__ import annotations

import json
import posixpath
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import WDL

from tests.simulators.cromwell import (
    Bind,
    Containers,
    Cromwell,
    Execution,
    Localization,
    Sandbox,
    bind_inputs,
    load,
    write_results,
)
from tests.simulators.jaws_central import JAWS, JAWSRun, RefusalError
from tests.simulators.sfapi import NERSC

JAWS_FOLDER = "/global/cfs/projectdirs/kbase/jaws"
"""The folder of JAWS's own programs at NERSC."""
STAGING = "/pscratch/sd/k/kbjaws/kbase-prod"
"""The staging area, as Perlmutter sees it."""
REFDATA_ROOT = "/global/dna/kbase/reference/jaws"
CLIENT = Path(__file__).with_name("jaws_client.py")
"""The command ``jaws``, with the place of central to be filled in."""
_EXECUTIONS = "/pscratch/sd/k/kbjaws/cromwell-executions"
_RESULTS = f"{JAWS_FOLDER}/output"
_NOTICE = "Using cached copies of some inputs"
_CHANGES = "_changes.txt"
_BEFORE = ("upload queued", "uploading", "upload complete", "ready", "submitted", "queued")
_AFTER = ("download queued", "downloading", "download complete")


@dataclass
class JAWSSites:
    """The sites of a JAWS, on the files of NERSC."""

    jaws: JAWS
    nersc: NERSC
    containers: Containers = field(default_factory=Sandbox)
    tells_successes: bool = False
    """Whether ``errors.json`` has the containers that succeeded, too."""
    makes_folders: bool = True
    """Whether sites make the folders of the ``dynamic_`` keys themselves."""
    localization: Localization = "hard link"
    notice: Literal["stdout", "stderr", "none"] = "stdout"
    """Where the client tells of inputs that are staged already."""
    is_held: bool = False
    """Whether runs wait in ``ready``, as beyond the number that may run at once."""
    copies_refdata: bool = True
    """Whether JAWS notices files of changes of reference data."""
    copy_result: str = "succeeded"
    """What it says of its copies of reference data."""
    executions: list[Execution] = field(default_factory=list)
    """What has run, in the order of the ends."""

    def __post_init__(self) -> None:
        self._stopped = threading.Event()
        self.nersc.add_module(
            f"{JAWS_FOLDER}/modulefiles", "jaws", f"export PATH={JAWS_FOLDER}/bin:$PATH\n"
        )
        program = self.nersc.place(f"{JAWS_FOLDER}/bin/jaws")
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(CLIENT.read_text().replace("@URL@", f"{self.jaws.url}api/v2/run"))
        program.chmod(0o755)
        for folder in (f"{REFDATA_ROOT}/log", STAGING, _EXECUTIONS):
            self.nersc.place(folder).mkdir(parents=True, exist_ok=True)
        self.refdata_at("jgi").mkdir(exist_ok=True)
        self.jaws.take = self._take
        threading.Thread(target=self._watch_refdata, daemon=True).start()

    def stop(self) -> None:
        """Stop watching; runs end with their central."""
        self._stopped.set()

    def refdata_at(self, site: str) -> Path:
        """Return the root of the reference data of a site."""
        return (
            self.nersc.place(REFDATA_ROOT)
            if site == "kbase"
            else self.nersc.root / f"refdata-{site}"
        )

    def _take(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["site"] not in self.jaws.sites:
            raise RefusalError(400, {"error": f"{asked['site']} is no site"})
        wdl, inputs = self._find_input(asked["wdl"], ""), self._find_input(asked["inputs"], "")
        try:
            content = json.loads(inputs.read_text())
            bound = bind_inputs(load(wdl), content)
        except (WDL.Error.SyntaxError, WDL.Error.ValidationError, WDL.Error.InputError) as e:
            raise RefusalError(400, {"error": f"The workflow is not valid: {e}"}) from None
        folder = posixpath.dirname(asked["inputs"])
        missing: list[str] = []

        def stage(file: WDL.Value.File | WDL.Value.Directory) -> str:
            if not self._find_input(file.value, folder).is_file():
                missing.append(file.value)
            return file.value

        WDL.Value.rewrite_env_paths(bound, stage)
        if missing:
            raise RefusalError(400, {"error": f"Input path not found: {missing[0]}"})
        run = self.jaws.submit(asked["tag"], asked["site"])
        # A client stages its files before it returns: what happens to them later is nothing to the run.
        own = self.nersc.root / "runs" / str(run.id)
        own.mkdir(parents=True)
        shutil.copyfile(wdl, own / "input.wdl")
        if (manifests := inputs.parent / "manifests").is_dir():
            shutil.copytree(manifests, own / "manifests")
        threading.Thread(target=self._run, args=(run, own, content), daemon=True).start()
        return {"run_id": run.id, "notice": _NOTICE, "notices": self.notice}

    def _find_input(self, path: str, folder: str) -> Path:
        return self.nersc.place(posixpath.join(folder, path))

    def _run(self, run: JAWSRun, own: Path, inputs: dict[str, Any]) -> None:
        for status in _BEFORE:
            self.jaws.advance(run, status)
            while status == "ready" and self.is_held and not run.cancelled.wait(0.01):
                continue
        self.jaws.advance(run, "running")
        if not run.cancelled.is_set():
            self._execute(run, own, inputs)
        run.ended.set()

    def _execute(self, run: JAWSRun, own: Path, inputs: dict[str, Any]) -> None:
        cromwell = Cromwell(
            self.nersc.place(_EXECUTIONS),
            self.containers,
            lambda path: self.nersc.place(path) if path.startswith("/") else own / path,
            refdata=self.refdata_at(run.site),
            localization=self.localization,
            shared=[Bind(self.nersc.place(STAGING), STAGING)],
            makes_folders=self.makes_folders,
        )
        execution = cromwell.run(own / "input.wdl", inputs, run.cancelled)
        self.executions.append(execution)
        if not run.cancelled.is_set():
            result = "failed" if execution.outputs is None else "succeeded"
            folder = f"{_RESULTS}/{run.site}/{self.jaws.user}/{run.id}/{execution.folder.name}"
            write_results(execution, self.nersc.place(folder), tells_successes=self.tells_successes)
            run.output_dir = folder
            for status in (result, *_AFTER, "done"):
                self.jaws.advance(run, status, result)

    def _watch_refdata(self) -> None:
        root, done = self.refdata_at("kbase"), set[tuple[str, int]]()
        while not self._stopped.wait(0.02):
            for changes in root.glob(f"*{_CHANGES}"):
                seen = (changes.name, changes.stat().st_mtime_ns)
                if (
                    not self.copies_refdata
                    or seen in done
                    or not changes.read_text().endswith("\n")
                ):
                    continue
                done.add(seen)
                source = self.nersc.place(changes.read_text().strip())
                if self.copy_result == "succeeded":
                    self._copy_refdata(source, self.refdata_at("jgi") / source.relative_to(root))
                answer = root / "log" / f"{changes.name}_jgi.complete"
                answer.write_text(json.dumps({"result": self.copy_result}))

    @staticmethod
    def _copy_refdata(source: Path, target: Path) -> None:
        """Copy what JAWS's user may read, without symbolic links."""
        for path in source.rglob("*"):
            if path.is_file() and not path.is_symlink() and path.stat().st_mode & 0o040:
                place = target / path.relative_to(source)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)


@pytest.fixture
def jaws_sites(jaws: JAWS, nersc: NERSC) -> Iterator[JAWSSites]:
    """JAWS, with its command at NERSC and sites that run."""
    sites = JAWSSites(jaws, nersc)
    yield sites
    sites.stop()
