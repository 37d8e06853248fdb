"""Runs the containers of a run as Cromwell and JAWS do, without either: miniwdl evaluates, bubblewrap is the container.

As in a container, a program sees its mounts below the paths that the ``dynamic_`` keys name, and of the rest of the machine only the
folders of programs, read-only.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import WDL

from cts_core.sites.jaws.wdl import TASK, RunFiles
from tests.services.server import require_program

PROGRAM = Path(__file__).with_name("programs") / "jaws_probe.py"
"""What ``/cts/probe`` is in each container."""


@dataclass
class Shard:
    """What one container did, and how it ended."""

    folder: Path
    code: int
    runtime: dict[str, Any]
    stdout: str
    stderr: str
    seen: dict[str, Any] | None
    """What the program saw; None if it was not run."""
    outputs: list[str] = field(default_factory=list)
    """The lines of ``output_files.txt``."""


def check_wdl(run: RunFiles, folder: Path) -> WDL.Document:
    """Return the workflow, parsed and type-checked by miniwdl, with inputs that fit it."""
    path = folder / "input.wdl"
    path.write_text(run.wdl)
    document = WDL.load(str(path))
    WDL.values_from_json(
        json.loads(run.inputs),
        document.workflow.available_inputs,
        document.workflow.required_inputs,
        namespace=document.workflow.name,
    )
    return document


def run_shard(
    run: RunFiles, number: int, folder: Path, *, contents: dict[str, str], refdata: Path | None
) -> Shard:
    """Run one container; ``contents`` are those of the inputs by their path in ``input.json``."""
    document = check_wdl(run, folder)
    inputs = {
        key.rpartition(".")[2]: value[number] for key, value in json.loads(run.inputs).items()
    }
    execution = folder / f"call-{TASK}" / f"shard-{number}" / "execution"
    execution.mkdir(parents=True)
    localized = execution.parent / "inputs"
    for index, path in enumerate(inputs["files"]):
        place = localized / str(index) / Path(path).name
        place.parent.mkdir(parents=True)
        place.write_text(contents[path])
        inputs["files"][index] = str(place)
    (task,) = document.tasks
    values = WDL.values_from_json({"number": number, **inputs}, task.available_inputs)
    library = WDL.StdLib.Base("1.0")
    script = "".join(
        part if isinstance(part, str) else part.eval(values, library).value
        for part in task.command.parts
    )
    runtime = {key: value.eval(values, library).json for key, value in task.runtime.items()}
    (execution / "script").write_text(script)
    ended = subprocess.run(
        [*_container(runtime, execution, refdata), "/bin/bash", "script"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    seen, listed = execution / "seen.json", execution / "output_files.txt"
    return Shard(
        execution,
        ended.returncode,
        runtime,
        ended.stdout,
        ended.stderr,
        json.loads(seen.read_text()) if seen.exists() else None,
        listed.read_text().splitlines() if listed.exists() else [],
    )


def _container(runtime: dict[str, Any], execution: Path, refdata: Path | None) -> list[str]:
    bubblewrap = require_program("bwrap", "install bubblewrap")
    command = [bubblewrap, "--unshare-pid", "--die-with-parent", "--dev", "/dev", "--tmpfs", "/tmp"]
    command += ["--clearenv", "--setenv", "PATH", "/usr/bin:/bin"]
    for system in ("/usr", "/bin", "/lib", "/lib64", "/etc", "/sbin"):
        if Path(system).exists():
            command += ["--ro-bind", system, system]
    command += ["--bind", str(execution.parent), str(execution.parent)]
    command += ["--ro-bind", str(PROGRAM), "/cts/probe", "--setenv", "SEEN", str(execution / "seen.json")]  # fmt: skip
    for key in ("dynamic_input", "dynamic_output"):
        folder, _, mount = runtime[key].partition(":")
        # JAWS makes the folder, as it mounts it before the script runs.
        (execution / folder).mkdir(parents=True, exist_ok=True)
        command += ["--bind", str(execution / folder), mount]
    if refdata is not None:
        command += ["--ro-bind", str(refdata), runtime["dynamic_refdata"].partition(":")[2]]
    mounts = [runtime[key].partition(":")[2] for key in runtime if key.startswith("dynamic_")]
    return [*command, "--setenv", "MOUNTS", ":".join(mounts), "--chdir", str(execution)]
