"""A simulator of Cromwell under JAWS: it runs a workflow of one scatter over one task, as JAWS's own workflows for CTS are.

miniwdl evaluates the workflow; the task's script runs in a container, in the folders that Cromwell makes. As in JAWS, a program sees its
mounts below the paths that the ``dynamic_`` keys of the task name.
"""

from __future__ import annotations

import json
import os
import posixpath
import shutil
import subprocess
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import WDL
from WDL import Env, StdLib, Type, Value
from WDL._util import strip_leading_whitespace

from tests.services.containers import ContainerRuntime
from tests.services.server import or_skip, require_program

_INSIDE = "/cromwell-executions"
"""Where containers see the executions."""
_TASKS = 4
"""Containers of a workflow that run at once."""
_VERSION = "1.0"
Localization = Literal["hard link", "soft link", "copy"]


@dataclass(frozen=True)
class Bind:
    """A folder or file of this machine in a container."""

    source: Path
    target: str
    is_writable: bool = False


class Containers(Protocol):
    """What runs containers."""

    def command(self, name: str, image: str, binds: Sequence[Bind], folder: str) -> list[str]:
        """Return the command that runs what is appended to it in a container, in a folder of it."""

    def stop(self, name: str) -> None:
        """Stop a container whose command was killed."""


@dataclass(frozen=True)
class Sandbox:
    """Containers by bubblewrap, which have this machine's programs instead of an image."""

    programs: Mapping[str, Path] = field(default_factory=dict)
    """What images would have, by its path in the container."""
    environment: Mapping[str, str] = field(default_factory=dict)
    folders: Sequence[Bind] = ()
    """What containers see besides, as none would at JAWS."""

    def command(self, name: str, image: str, binds: Sequence[Bind], folder: str) -> list[str]:
        with or_skip():
            bubblewrap = require_program("bwrap", "install bubblewrap")
        command = [
            bubblewrap,
            "--unshare-pid",
            "--die-with-parent",
            "--dev",
            "/dev",
            "--tmpfs",
            "/tmp",
        ]
        command += ["--proc", "/proc", "--clearenv", "--setenv", "PATH", "/usr/bin:/bin"]
        for key, value in self.environment.items():
            command += ["--setenv", key, value]
        for system in ("/usr", "/bin", "/lib", "/lib64", "/etc", "/sbin"):
            command += ["--ro-bind-try", system, system]
        for target, program in self.programs.items():
            command += ["--ro-bind", str(program), target]
        for bind in (*binds, *self.folders):
            command += [
                "--bind" if bind.is_writable else "--ro-bind",
                str(bind.source),
                bind.target,
            ]
        return [*command, "--chdir", folder]

    def stop(self, name: str) -> None:
        """Do nothing: containers die with their commands."""


@dataclass(frozen=True)
class Images:
    """Containers of images."""

    runtime: ContainerRuntime

    def command(self, name: str, image: str, binds: Sequence[Bind], folder: str) -> list[str]:
        command = [*self.runtime.command, "run", "--rm", "--name", name, "--network=none"]
        command += (
            f"--volume={bind.source}:{bind.target}:{'rw' if bind.is_writable else 'ro'}"
            for bind in binds
        )
        # Cromwell replaces the entrypoint of the image.
        command += [*self.runtime.arguments, f"--workdir={folder}", "--entrypoint="]
        return [*command, image]

    def stop(self, name: str) -> None:
        subprocess.run(
            [*self.runtime.command, "rm", "--force", name], capture_output=True, check=False
        )


@dataclass
class Shard:
    """What one container did, and how it ended."""

    number: int
    folder: Path
    """Its execution folder."""
    runtime: dict[str, Any]
    code: int | None = None
    """None if it was not run, or cancelled."""
    outputs: Env.Bindings[Value.Base] | None = None
    """Those of the task, if it succeeded; paths of files are relative to the folder of the workflow."""
    message: str | None = None
    """Why it failed."""

    def read(self, name: str) -> str:
        """Return the text of a file of its execution folder; none is empty."""
        path = self.folder / name
        return path.read_text(errors="replace") if path.exists() else ""


@dataclass
class Execution:
    """A workflow that has run."""

    folder: Path
    workflow: str
    task: str
    shards: list[Shard]
    outputs: dict[str, Any] | None
    """Those of the workflow, as ``outputs.json`` has them; None if a container failed."""

    def errors(self, *, tells_successes: bool = False) -> dict[str, Any]:
        """Return what ``errors.json`` tells."""
        told = [shard for shard in self.shards if shard.outputs is None or tells_successes]
        calls = [_failure(f"{self.workflow}.{self.task}", shard) for shard in told]
        return {"calls": {f"{self.workflow}.{self.task}": calls}} if calls else {}


def _failure(call: str, shard: Shard) -> dict[str, Any]:
    code = {} if shard.code is None else {"returnCode": shard.code}
    why = shard.message or (
        f"Job {call}:{shard.number}:1 exited with return code {shard.code} which has not been declared as a valid return code. "
        "See 'continueOnReturnCode' runtime attribute for more details."
    )
    return {
        "shardIndex": shard.number,
        "attempt": 1,
        **code,
        "failures": [] if shard.outputs is not None else [{"message": why, "causedBy": []}],
        "stdoutContents": shard.read("stdout"),
        "stderrContents": shard.read("stderr"),
        "stderrSubmitContents": "",
    }


def load(wdl: Path) -> WDL.Document:
    """Return the workflow, parsed and type-checked by miniwdl. Raises WDL.Error.SyntaxError and the like."""
    document = WDL.load(str(wdl))
    assert document.workflow is not None
    return document


def bind_inputs(document: WDL.Document, inputs: Mapping[str, Any]) -> Env.Bindings[Value.Base]:
    """Return the inputs of the workflow from those of ``input.json``. Raises WDL.Error.InputError."""
    workflow = document.workflow
    assert workflow is not None
    return WDL.values_from_json(
        dict(inputs), workflow.available_inputs, workflow.required_inputs, namespace=workflow.name
    )


@dataclass
class Cromwell:
    """Runs workflows below ``root``."""

    root: Path
    containers: Containers
    find_input: Callable[[str], Path]
    """Returns where an input of ``input.json`` is on this machine."""
    refdata: Path | None = None
    """The root of reference data."""
    localization: Localization = "hard link"
    """How inputs get into the folder of a container; a soft link leads to where ``shared`` shows it."""
    shared: Sequence[Bind] = ()
    """What every container sees besides."""
    makes_folders: bool = True
    """Whether the folders of the ``dynamic_`` keys are made and mounted before the script begins; else they are there once it has made them."""

    def run(
        self, wdl: Path, inputs: Mapping[str, Any], stopped: threading.Event | None = None
    ) -> Execution:
        """Run a workflow to its end, or until ``stopped`` is set: then its containers are killed."""
        document = load(wdl)
        workflow, (task,) = document.workflow, document.tasks
        assert workflow is not None
        (scatter,) = workflow.body
        assert isinstance(scatter, WDL.Scatter)
        (call,) = scatter.body
        assert isinstance(call, WDL.Call)
        given, library = bind_inputs(document, inputs), StdLib.Base(_VERSION)
        items = scatter.expr.eval(given, library)
        folder = self.root / workflow.name / str(uuid.uuid4())

        def run_shard(number: int) -> Shard:
            scope = given.bind(scatter.variable, items.value[number])
            values: Env.Bindings[Value.Base] = Env.Bindings()
            for name, expression in call.inputs.items():
                values = values.bind(name, expression.eval(scope, library))
            return self._run_task(task, values, number, folder, stopped or threading.Event())

        with ThreadPoolExecutor(_TASKS) as pool:
            shards = list(pool.map(run_shard, range(len(items.value))))
        outputs = None
        if all(shard.outputs is not None for shard in shards):
            outputs = _workflow_outputs(workflow, call.name, task, shards)
        return Execution(folder, workflow.name, task.name, shards, outputs)

    def _run_task(
        self,
        task: WDL.Task,
        values: Env.Bindings[Value.Base],
        number: int,
        folder: Path,
        stopped: threading.Event,
    ) -> Shard:
        relative = f"call-{task.name}/shard-{number}"
        place = folder / relative
        execution = place / "execution"
        execution.mkdir(parents=True)
        inside = f"{_INSIDE}/{folder.parent.name}/{folder.name}/{relative}"
        library = StdLib.Base(_VERSION)
        runtime = {key: value.eval(values, library).json for key, value in task.runtime.items()}
        shard = Shard(number, execution, runtime)
        try:
            values = self._localize(values, place, inside)
        except FileNotFoundError as e:
            shard.message = f"Could not localize {e.filename}: it does not exist"
            return shard
        parts = (
            part if isinstance(part, str) else part.eval(values, library).value
            for part in task.command.parts
        )
        script = strip_leading_whitespace("".join(parts))[1]
        binds = [Bind(place, inside, is_writable=True), *self.shared]
        prelude = ""
        for key in ("dynamic_input", "dynamic_output"):
            source, _, target = runtime[key].partition(":")
            if self.makes_folders:
                (execution / source).mkdir(parents=True, exist_ok=True)
                binds.append(Bind(execution / source, target, is_writable=True))
            else:
                prelude += (
                    f"mkdir -p '{posixpath.dirname(target)}'; ln -s \"$PWD/{source}\" '{target}'\n"
                )
        if "dynamic_refdata" in runtime:
            source, _, target = runtime["dynamic_refdata"].partition(":")
            if self.refdata is None or not (self.refdata / source).is_dir():
                shard.message = f"The reference data {source} are not at this site"
                return shard
            binds.append(Bind(self.refdata / source, target))
        (execution / "script").write_text(prelude + script)
        shard.code = self._run_container(runtime, binds, execution, f"{inside}/execution", stopped)
        if shard.code == 0:
            self._collect(task, values, shard, relative)
        return shard

    def _run_container(
        self,
        runtime: Mapping[str, Any],
        binds: Sequence[Bind],
        execution: Path,
        folder: str,
        stopped: threading.Event,
    ) -> int | None:
        name = f"jaws-{uuid.uuid4()}"
        command = self.containers.command(name, runtime["docker"], binds, folder)
        with (execution / "stdout").open("wb") as out, (execution / "stderr").open("wb") as err:
            process = subprocess.Popen(
                [*command, "/bin/bash", "script"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
            while not stopped.is_set():
                try:
                    return process.wait(0.02)
                except subprocess.TimeoutExpired:
                    continue
            process.kill()
            process.wait()
            self.containers.stop(name)
            return None

    def _localize(
        self, values: Env.Bindings[Value.Base], place: Path, inside: str
    ) -> Env.Bindings[Value.Base]:
        made: dict[str, str] = {}

        def localize(file: Value.File | Value.Directory) -> str:
            if file.value not in made:
                made[file.value] = self._place_input(file.value, place, len(made))
            return f"{inside}/{made[file.value]}"

        return Value.rewrite_env_paths(values, localize)

    def _place_input(self, path: str, place: Path, index: int) -> str:
        relative = f"inputs/{index}/{posixpath.basename(path)}"
        target, source = place / relative, self.find_input(path)
        target.parent.mkdir(parents=True)
        if self.localization == "hard link":
            os.link(source, target)
        elif self.localization == "copy":
            shutil.copyfile(source, target)
        else:
            target.symlink_to(path)
        return relative

    def _collect(
        self, task: WDL.Task, values: Env.Bindings[Value.Base], shard: Shard, relative: str
    ) -> None:
        library = _OutputLibrary(shard.folder)
        found: Env.Bindings[Value.Base] = Env.Bindings()

        def move(file: Value.File | Value.Directory) -> str:
            path = posixpath.normpath(file.value)
            assert not path.startswith(("/", "..")), path
            if not (shard.folder / path).is_file():
                shard.message = f"The output {path} is missing"
            return f"{relative}/execution/{path}"

        for output in task.outputs:
            assert output.expr is not None
            value = output.expr.eval(values, library).coerce(output.type)
            found = found.bind(output.name, Value.rewrite_paths(value, move))
        if shard.message is None:
            shard.outputs = found


class _OutputLibrary(StdLib.TaskOutputs):
    def __init__(self, folder: Path) -> None:
        super().__init__(_VERSION)
        self._folder = folder
        for name in ("stdout", "stderr"):
            file = Value.File(name)
            function = StdLib.StaticFunction(name, [], Type.File(), lambda file=file: file)
            setattr(self, name, function)

    def _devirtualize_filename(self, filename: str) -> str:
        return str(self._folder / filename)


def _workflow_outputs(
    workflow: WDL.Workflow, call: str, task: WDL.Task, shards: Sequence[Shard]
) -> dict[str, Any]:
    scope: Env.Bindings[Value.Base] = Env.Bindings()
    for output in task.outputs:
        values = [shard.outputs[output.name] for shard in shards if shard.outputs is not None]
        scope = scope.bind(f"{call}.{output.name}", Value.Array(output.type, values))
    library = StdLib.Base(_VERSION)
    return {
        f"{workflow.name}.{output.name}": _relative(output.expr.eval(scope, library).json)
        for output in workflow.outputs or ()
        if output.expr is not None
    }


def _relative(paths: Any) -> Any:
    """Return paths as JAWS writes them."""
    return f"./{paths}" if isinstance(paths, str) else [_relative(path) for path in paths]


def write_results(execution: Execution, folder: Path, *, tells_successes: bool) -> None:
    """Write what JAWS hands out of a workflow: its outputs, and either of its two files."""
    folder.mkdir(parents=True)
    if execution.outputs is None:
        text = json.dumps(execution.errors(tells_successes=tells_successes))
        (folder / "errors.json").write_text(text)
        return
    for path in _strings(execution.outputs):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(execution.folder / path, target)
    (folder / "outputs.json").write_text(json.dumps(execution.outputs))


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value
    return [text for part in parts for text in _strings(part)]
