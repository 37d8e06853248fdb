"""What JAWS runs: a workflow in WDL 1.0, its inputs, and manifests, made from the plans of a job's containers. Pure.

The text of the workflow depends on image, resources and mount points alone, so that Cromwell's call cache knows it again;
everything else is in ``input.json``. Nothing that a user names stands in the script but as one quoted word of bash:
``input.json`` is data to WDL, and what is in it is not searched for placeholders.

JAWS mounts the folders of the task that the ``dynamic_`` keys name into the container (docs/reference/contract-jaws.md §7).
"""

from __future__ import annotations

import hashlib
import json
import math
import posixpath
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cts_core.errors import UnsupportedError
from cts_core.model.image import JobImage
from cts_core.model.job import JobInputPreview
from cts_core.mounts import Mounts
from cts_core.plan import ContainerPlan
from cts_core.sites.jaws.layout import MANIFESTS, cache_entry
from cts_core.worker.run_errors import TASK

EXIT_LINE = "Entrypoint exit code: "
"""What the task writes to stdout after the program, with its exit code."""
NOT_PLACED = 125
"""The exit code of a task whose inputs could not be placed, so that its program was not run; docker's own for the like."""
INPUT_FOLDER, OUTPUT_FOLDER = "__input__", "__output__"
"""The folders of a task, in its execution folder, that are mounted as those of inputs and outputs."""
UNSTORED = "unstored_files.txt"
"""A file beside the folder of outputs, which is one of the task's outputs if it is not empty: the paths of outputs that no object can have, a NUL after each."""
_MAX_NAME = 150
"""Characters of a workflow's name, which Cromwell has as the name of a folder."""
_DEFAULT_REGISTRY = "docker.io/"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

_WORKFLOW = """\
version 1.0

workflow {name} {{
  input {{
    Array[Array[File]] files
    Array[Array[String]] places
    Array[Array[String]] words
    Array[Array[String]] environment
  }}
  scatter (n in range(length(files))) {{
    call {task} {{
      input:
        number = n,
        files = files[n],
        places = places[n],
        words = words[n],
        environment = environment[n]
    }}
  }}
  output {{
    Array[Array[File]] output_files = {task}.output_files
    Array[File] stdouts = {task}.stdout_file
    Array[File] stderrs = {task}.stderr_file
  }}
}}

task {task} {{
  input {{
    Int number
    Array[File] files
    Array[String] places
    Array[String] words
    Array[String] environment
  }}
  command <<<
    # In a shell of its own: the environment of the image may have variables of these names.
    (
      files=("~{{sep='" "' files}}")
      places=(~{{sep=" " places}})
      fail() {{
        echo "CTS: $1; the program was not run" >&2
        exit {not_placed}
      }}
      mkdir -p ./{inputs} ./{outputs} || fail "the folders of the container cannot be made"
      for i in "${{!files[@]}}"; do
        file=${{files[i]}}
        place=./{inputs}/${{places[i]}}
        folder=${{place%/*}}
        [ -d "$folder" ] || mkdir -p "$folder" || fail "the folder of the input ${{places[i]}} cannot be made"
        # A hard link of a symbolic one would lead out of the container.
        [ ! -L "$file" ] || file=$(readlink -f "$file")
        ln "$file" "$place" 2>/dev/null || cp "$file" "$place" || fail "the input ${{places[i]}} cannot be placed"
      done
    ) || exit {not_placed}
    # The variables are the program's alone: bash has some of their names for itself, and finds its own programs by PATH.
    env -- ~{{sep=" " environment}} ~{{sep=" " words}} </dev/null
    code=$?
    # Names with control characters have no path in an object store, and may not be one line each: a file of its own tells them.
    LC_ALL=C find ./{output_folder} -type f ! -path '*[[:cntrl:]]*' >output_files.txt || exit {not_placed}
    LC_ALL=C find ./{output_folder} -type f -path '*[[:cntrl:]]*' -print0 >{unstored} || exit {not_placed}
    [ ! -s {unstored} ] || echo ./{unstored} >>output_files.txt
    echo "{exit_line}$code"
    exit $code
  >>>
  output {{
    Array[File] output_files = read_lines("output_files.txt")
    File stdout_file = stdout()
    File stderr_file = stderr()
  }}
  runtime {{
{runtime}
  }}
}}
"""


@dataclass(frozen=True)
class RunFiles:
    """What a run is submitted by."""

    wdl: str
    inputs: str
    """The text of ``input.json``."""
    manifests: Mapping[str, str]
    """The text of each manifest, by its path below the folder of the job."""
    key: str
    """Of ``input.json``, which has the paths of the files of each container."""


def make_run(
    job: JobInputPreview,
    image: JobImage,
    plans: Sequence[ContainerPlan],
    *,
    cache: str,
    refdata: str | None,
) -> RunFiles:
    """Return what runs these containers; the same arguments give the same bytes.

    ``cache`` is the cache as Perlmutter sees it, and ``refdata`` the image's reference data, relative to JAWS's root of it.
    Raises UnsupportedError.
    """
    check_program(image)
    name = workflow_name(image.name)
    wdl = _WORKFLOW.format(
        name=name,
        task=TASK,
        inputs=INPUT_FOLDER,
        outputs=OUTPUT_FOLDER + ("/~{number}" if job.params.declobber else ""),
        output_folder=OUTPUT_FOLDER,
        unstored=UNSTORED,
        not_placed=NOT_PLACED,
        exit_line=EXIT_LINE,
        runtime="\n".join(f"    {line}" for line in _runtime(job, image, plans[0].mounts, refdata)),
    )
    manifests = {_path_of(plan): plan.manifest.text for plan in plans if plan.manifest is not None}
    key = f"{name}.files"
    inputs = {
        key: [_files(plan, cache) for plan in plans],
        f"{name}.places": [_quoted(_places(plan)) for plan in plans],
        f"{name}.words": [_quoted(plan.argv) for plan in plans],
        f"{name}.environment": [
            _quoted(map("=".join, sorted(plan.environment.items()))) for plan in plans
        ],
    }
    return RunFiles(wdl, json.dumps(inputs) + "\n", manifests, key)


def check_program(image: JobImage) -> None:
    """Raise UnsupportedError if the program of an image cannot be run: ``env`` would take its name for a variable."""
    program = image.entrypoint[0] if image.entrypoint else ""
    if "=" in program:
        raise UnsupportedError(
            f"The entrypoint of the image {image.name} begins with '{program}': JAWS cannot run a program with = in its path. "
            "Give the program another path in the image, or run the job at another site"
        )


def workflow_name(image_name: str) -> str:
    """Return the name of the workflow of an image: a legal one in WDL, and short enough for the name of a folder."""
    name = re.sub(r"[^A-Za-z0-9]", "_", image_name)
    if not name[:1].isalpha():
        name = f"image_{name}"
    if len(name) <= _MAX_NAME:
        return name
    return f"{name[:_MAX_NAME]}_{hashlib.sha256(image_name.encode()).hexdigest()[:16]}"


def _runtime(
    job: JobInputPreview, image: JobImage, mounts: Mounts, refdata: str | None
) -> Iterable[str]:
    reference = f"{image.name.removeprefix(_DEFAULT_REGISTRY)}@{image.digest}"
    outputs = OUTPUT_FOLDER + ("/~{number}" if job.params.declobber else "")
    yield f'docker: "{_escaped(reference)}"'
    yield f"runtime_minutes: {math.ceil(job.runtime.total_seconds() / 60)}"
    yield f'memory: "{int(job.memory)} B"'
    yield f"cpu: {job.cpus}"
    yield f'dynamic_input: "{INPUT_FOLDER}:{_escaped(mounts.inputs)}"'
    yield f'dynamic_output: "{outputs}:{_escaped(mounts.outputs)}"'
    if refdata is not None and mounts.refdata is not None:
        yield f'dynamic_refdata: "{_escaped(refdata)}:{_escaped(mounts.refdata)}"'


def _files(plan: ContainerPlan, cache: str) -> list[str]:
    cached = [cache_entry(cache, placed.file.crc64nvme or "") for placed in plan.files]
    return cached if plan.manifest is None else [*cached, _path_of(plan)]


def _places(plan: ContainerPlan) -> list[str]:
    places = [placed.place for placed in plan.files]
    return places if plan.manifest is None else [*places, plan.manifest.name]


def _path_of(plan: ContainerPlan) -> str:
    """Return the path of a container's manifest below the folder of the job, from which JAWS takes it."""
    return posixpath.join(MANIFESTS, plan.manifest.name) if plan.manifest is not None else ""


def _quoted(words: Iterable[str]) -> list[str]:
    return [quote(word) for word in words]


def quote(word: str) -> str:
    """Return the word as one word of bash, in one line: Cromwell may strip white space from the lines of a script."""
    if not _CONTROL.search(word):
        return shlex.quote(word)
    escaped = word.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + _CONTROL.sub(lambda found: f"\\{ord(found[0]):03o}", escaped) + "'"


def _escaped(text: str) -> str:
    """Return the text as it stands in a string of WDL 1.0, without what could end the string or begin a placeholder."""
    return re.sub(r'[\\"~$\x00-\x1f\x7f]', lambda found: f"\\u{ord(found[0]):04x}", text)
