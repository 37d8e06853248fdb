"""CTS's helper at NERSC: it makes one attempt at a step of a job, or looks at what has come of many.

``nersc.py attempt FOLDER STEP NUMBER PLAN`` makes an attempt, as the plan says, a file of JSON that is removed once it was
read, since it has links in it. ``nersc.py look`` is told by standard input what to look at, and answers on standard output.
``nersc.py stop FOLDER PLANS`` keeps a job from being submitted any more. Every command may come twice, or late.
"""

from __future__ import annotations

import glob
import json
import os
import re
import stat
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, BinaryIO, Callable, Dict, Iterator, List, Mapping

from cts_core.worker.archives import TAR_ENDINGS, Budget, Limits, UnpackError, unpack
from cts_core.worker.attempts import Attempt, LastingError, StepFailedError
from cts_core.worker.checksum import crc64nvme_text
from cts_core.worker.failpoints import failpoint
from cts_core.worker.files import read_json, remove_tree, sync_folder, write_json
from cts_core.worker.http.client import (
    HttpClient,
    ResponseError,
    SignedRequest,
    TransientError,
    UntrustedCertificateError,
)
from cts_core.worker.links import LANES, Source, Target, fetch, file_checksum, send
from cts_core.worker.parallel import ParallelMap
from cts_core.worker.run_errors import ResultError, RunErrors, read_errors

MAX_INLINE = 8192
"""Bytes of a file that is told by what is in it when it is looked at."""
_MAX_ERRORS_JSON = 256 << 20
MAX_LOG_BYTES = 100 << 20
"""Bytes of a log that are stored."""
_MAX_TOLD = 1000
"""Characters of a message about one container."""
_PLAN_SECONDS = 2 * 86_400
"""The age of a plan that nobody has read, after which it is removed."""
_SUBMIT_SECONDS = 600
_CALLBACK_SECONDS = 10.0
_RUN_ID = "run_id"
_GROUP_READS = 0o050
"""The permissions of a group that reads a folder, and enters it."""
_OUTPUTS = "/__output__/"
WITHOUT_INPUTS = "without_inputs"
"""In the end of an attempt to submit for which inputs were missing: the number of the download that had placed them."""
_OUTPUT = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""A pipe must not be waited for."""

Plan = Mapping[str, Any]


def main(arguments: List[str]) -> int:
    """Do what the arguments say; return the exit code."""
    if arguments[0] == "attempt":
        folder, step, number, plan = arguments[1:]
        return make_attempt(folder, step, int(number), plan)
    if arguments[0] == "stop":
        print(json.dumps(stop(*arguments[1:])))  # noqa: T201 - the answer
        return 0
    print(json.dumps(look(json.load(sys.stdin))))  # noqa: T201 - the answer
    return 0


def make_attempt(folder: str, step: str, number: int, plan_path: str) -> int:
    """Make an attempt at a step, unless somebody has begun it."""
    # Before the claim: a command that ran twice has one plan for both, which the one that comes too late removes. Before there is a folder: one that
    # comes when the job was canceled and cleaned has none, and must leave nothing.
    try:
        with open(plan_path, encoding="utf-8") as file:
            plan: Plan = json.load(file)
    except FileNotFoundError:
        return 0
    os.makedirs(folder, exist_ok=True)
    attempt = Attempt(folder, step, number)

    def work() -> Any:  # noqa: ANN401 - JSON
        failpoint(f"{step}:claimed")
        _remove(plan_path)
        data = STEPS[step](folder, attempt, plan)
        failpoint(f"{step}:done")
        return data

    if attempt.run(work):
        _call_back(plan["callback"])
    else:
        _remove(plan_path)
    return 0


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def _call_back(url: str) -> None:
    """Have the service look here now; it would without, but later."""
    http = HttpClient(timeout=_CALLBACK_SECONDS)
    with suppress(TransientError, ResponseError, UntrustedCertificateError, ValueError):
        http.request("GET", SignedRequest(url, {}))
    http.close()


# -- steps --


def _download(_folder: str, _attempt: Attempt, plan: Plan) -> None:
    """Place inputs in the cache, or reference data in its folder."""
    sources = {file["path"]: _source(file) for file in plan["files"]}
    with _readable_by_group():
        if "refdata" in plan:
            _stage(plan, sources)
        else:
            fetch(sources, insecure=plan["insecure"])


@contextmanager
def _readable_by_group() -> Iterator[None]:
    """Let the group read and enter what is made in this block, whatever the user's umask is: JAWS's own user reads it."""
    before = os.umask(0o077)
    os.umask(before & ~_GROUP_READS)
    try:
        yield
    finally:
        os.umask(before)


def _source(file: Plan) -> Source:
    return Source(file["name"], file["url"], file["crc64nvme"], file["size"])


def _stage(plan: Plan, sources: Dict[str, Source]) -> None:
    """Fetch and unpack reference data beside its folder, and put all of it there at once."""
    folder = plan["refdata"]
    # Which is not made: a file system that is away may come back.
    group = os.stat(plan["root"]).st_gid
    # What a helper that was killed has left may be very large. One that was only taken for lost fails without it.
    for left in glob.glob(f"{glob.escape(folder)}.*.tmp*"):
        remove_tree(left)
    for left in glob.glob(f"{glob.escape(plan['change_file'])}.*.tmp"):
        _remove(left)
    new = f"{folder}.{uuid.uuid4().hex}.tmp"
    ((name, source),) = sources.items()
    packed = os.path.join(f"{new}.packed", name)
    try:
        _make_folders(group, os.path.dirname(folder))
        fetch({packed: source}, insecure=plan["insecure"])
        if plan["unpack"]:
            _unpack(packed, name, new, Limits(**plan["limits"]))
        else:
            os.mkdir(new, 0o755)
            os.rename(packed, os.path.join(new, name))
        _share_tree(group, new)
        sync_folder(new)
        remove_tree(folder)
        os.rename(new, folder)
        _write_text(plan["change_file"], f"{folder}\n", partial(_share, group))
    finally:
        remove_tree(f"{new}.packed")
        remove_tree(new)


def _make_folders(group: int, folder: str) -> None:
    """Make the folders down to this one, for a group."""
    if os.path.isdir(folder):
        return
    _make_folders(group, os.path.dirname(folder))
    with suppress(FileExistsError):
        os.mkdir(folder, 0o755)
    _share(group, folder)


def _share_tree(group: int, top: str) -> None:
    """Have a group read a folder with all that is in it."""
    _share(group, top)
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            _share(group, os.path.join(folder, name))


def _share(group: int, path: str) -> None:
    """Have a group read a file or folder."""
    found = os.stat(path)
    if found.st_gid != group:
        try:
            os.chown(path, -1, group)
        except PermissionError as e:
            raise PermissionError(
                f"{path} cannot be given to the group {group} of the folder of all reference data, by which JAWS reads it: this "
                "service's user at NERSC has to be in that group"
            ) from e
    reads = _GROUP_READS if stat.S_ISDIR(found.st_mode) else _GROUP_READS & 0o444
    if found.st_mode & reads != reads:
        os.chmod(path, stat.S_IMODE(found.st_mode) | reads)


def _unpack(packed: str, name: str, folder: str, limits: Limits) -> None:
    # Endings count in any case; what is not packed by tar gets the name before its ending.
    called = name.lower() if name.lower().endswith(TAR_ENDINGS) else name
    try:
        unpack(packed, called, folder, Budget(os.path.dirname(folder), limits), symlinks=False)
    except UnpackError as e:
        raise LastingError(str(e)) from e


def _write_text(path: str, text: str, prepare: Callable[[str], None] = lambda _: None) -> None:
    """Write a file whole; ``prepare`` is called with the path that it has before it is put in its place."""
    temporary = f"{path}.{uuid.uuid4().hex}.tmp"
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        prepare(temporary)
        os.replace(temporary, path)
    finally:
        _remove(temporary)


def _submit(folder: str, attempt: Attempt, plan: Plan) -> Dict[str, Any]:
    """Write what the run is submitted by, and submit it."""
    for name, text in plan["files"].items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _write_text(path, text)
    _check_inputs(plan)
    environment = {**os.environ, "JAWS_USER_CONFIG": os.path.expanduser(plan["config"])}
    failpoint("submit:before")
    if attempt.is_superseded():
        raise RuntimeError("A later attempt has begun, or the job was canceled")
    ended = subprocess.run(  # noqa: S603 - JAWS's client
        [os.path.join(folder, word) if word in plan["files"] else word for word in plan["command"]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        timeout=_SUBMIT_SECONDS,
        check=False,
        encoding="utf-8",
        errors="replace",
    )
    failpoint("submit:after")
    run_id = _last_run_id(ended.stdout)
    if run_id is None:
        said = ended.stderr.strip() or ended.stdout.strip() or "nothing"
        raise RuntimeError(f"JAWS's client ended with {ended.returncode} and says: {said}")
    return {_RUN_ID: run_id}


def _check_inputs(plan: Plan) -> None:
    """Raise StepFailedError if inputs are not in the cache any more: JAWS removes what is old, and a job may have waited for long."""
    name, key = plan["inputs"]
    files = {path for files in json.loads(plan["files"][name])[key] for path in files}
    # Manifests are in the folder of the job.
    cached = sorted(path for path in files if os.path.isabs(path))
    are_missing = ParallelMap(LANES).map(_is_missing, cached)
    missing = [path for path, is_missing in zip(cached, are_missing) if is_missing]
    if missing:
        raise StepFailedError(
            f"{len(missing)} of {len(cached)} inputs are not in JAWS's staging area any more, such as {missing[0]}",
            {WITHOUT_INPUTS: plan["download"]},
        )


def _is_missing(path: str) -> bool:
    """Return whether nothing is at a path; where that cannot be seen, JAWS has to say it."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _last_run_id(output: str) -> Any:  # noqa: ANN401 - JSON
    """Return the run's id of the JSON at the end of an output, before which there may be other lines; None if there is none."""
    decoder = json.JSONDecoder()
    for match in reversed(list(re.finditer(r"\{", output))):
        with suppress(ValueError):
            value, _ = decoder.raw_decode(output, match.start())
            if isinstance(value, dict) and isinstance(value.get(_RUN_ID), (int, str)):
                return value[_RUN_ID]
    return None


def _checksums(folder: str, _attempt: Attempt, plan: Plan) -> Dict[str, Any]:
    """Compute the checksums of outputs; they are written to a file of their own, since they may be many."""
    root = plan["root"]

    def checksum(file: Plan) -> Dict[str, Any]:
        with _open_output(root, file["respath"]) as content:
            size = os.fstat(content.fileno()).st_size
            return {**file, "crc64nvme": file_checksum(content), "size": size}

    files = ParallelMap(LANES).map(checksum, plan["files"])
    for path in plan["unstored"]:
        files += _unstored(root, path)
    write_json(os.path.join(folder, plan["sums"]), {"root": root, "files": files})
    return {"files": len(files), "bytes": sum(file["size"] for file in files)}


def _unstored(root: str, path: str) -> List[Dict[str, Any]]:
    """Return the outputs that a container lists as those that no object can have the names of: without content, as nobody stores it."""
    with _open_output(root, path) as content:
        names = content.read().decode(errors="backslashreplace").split("\0")[:-1]
    empty = {"respath": path, "crc64nvme": crc64nvme_text(b""), "size": 0}
    return [{**empty, "s3path": name.partition(_OUTPUTS)[2]} for name in names]


def _open_output(root: str, path: str) -> BinaryIO:
    """Open an output of a run. Raises LastingError unless it is a regular file below the folder of the run.

    A program of a user was near the list of outputs, and near the outputs: either may lead to files that are not the user's.
    """
    whole = os.path.join(root, path)
    folder, real = os.path.realpath(root), os.path.realpath(whole)
    if not real.startswith(os.path.join(folder, "")):
        raise LastingError(f"The output {whole} leads out of the folder of its run")
    try:
        fd = os.open(real, _OUTPUT)
    except FileNotFoundError as e:
        if os.path.isdir(folder):
            raise LastingError(f"The output {whole} is gone") from e
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise LastingError(f"The output {whole} is no regular file")
    return open(fd, "rb", 0)


def _upload(_folder: str, _attempt: Attempt, plan: Plan) -> None:
    send([Target(**file) for file in plan["files"]], plan["root"], insecure=plan["insecure"])


def _logs(folder: str, _attempt: Attempt, plan: Plan) -> Dict[str, Any]:
    """Store the logs of containers that failed, and tell their exit codes."""
    errors = _read_errors(plan["errors_json"])
    logs = os.path.join(folder, "logs")
    os.makedirs(logs, exist_ok=True)
    targets = []
    for number, shard in errors.shards.items():
        if number < plan["containers"]:
            for stream, text in (("stdout", shard.stdout), ("stderr", shard.stderr)):
                name = f"container-{number}-{stream}.txt"
                content = (text or "").encode(errors="replace")[:MAX_LOG_BYTES]
                path = os.path.join(logs, name)
                with open(path, "wb") as file:
                    file.write(content)
                fields = {**plan["fields"], "key": plan["key_prefix"] + name}
                crc = crc64nvme_text(content)
                targets.append(
                    Target(plan["name_prefix"] + name, plan["url"], fields, path, crc, len(content))
                )
    send(targets, logs, insecure=plan["insecure"])
    return {
        "shards": {
            str(number): [shard.exit_code, (shard.message or "")[:_MAX_TOLD] or None]
            for number, shard in errors.shards.items()
        },
        "message": errors.message,
    }


def _read_errors(path: str) -> RunErrors:
    try:
        with open(path, "rb") as file:
            content = file.read(_MAX_ERRORS_JSON + 1)
    except FileNotFoundError:
        if not os.path.isdir(os.path.dirname(path)):
            # The file system of the results is not there, and may come back.
            raise
        return RunErrors()
    if len(content) > _MAX_ERRORS_JSON:
        return RunErrors(message=f"{path} is longer than {_MAX_ERRORS_JSON} bytes")
    try:
        return read_errors(content)
    except ResultError as e:
        # Another attempt would read the same.
        return RunErrors(message=str(e))


STEPS: Mapping[str, Callable[[str, Attempt, Plan], Any]] = {
    "download": _download,
    "submit": _submit,
    "checksums": _checksums,
    "upload": _upload,
    "logs": _logs,
}


# -- what others ask --


def stop(folder: str, plans: str) -> List[int]:
    """Keep a job from being submitted, and return the numbers of the attempts at that which have begun.

    An attempt looks for later ones right before it submits, and none begins whose claim is there. That claim goes when the job is cleaned:
    of commands that come later than that the plans are removed, without which they do nothing.
    """
    begun = _stop(folder)
    for plan in glob.glob(f"{glob.escape(os.path.join(plans, os.path.basename(folder)))}.*.plan"):
        _remove(plan)
    return begun


def _stop(folder: str) -> List[int]:
    os.makedirs(folder, exist_ok=True)
    mark = os.path.join(folder, f"stop-{uuid.uuid4().hex}.tmp")
    try:
        write_json(mark, _STOPPED)
        while True:
            matches = (_SUBMIT_CLAIM.fullmatch(name) for name in os.listdir(folder))
            begun = sorted(int(match[1]) for match in matches if match)
            if begun and _is_stop(_submit_claim(folder, begun[-1])):
                return begun[:-1]
            with suppress(FileExistsError):
                os.link(mark, _submit_claim(folder, (begun or [0])[-1] + 1))
    finally:
        os.unlink(mark)


_STOPPED = {"stopped": True}
_SUBMIT_CLAIM = re.compile(r"submit-([1-9][0-9]*)\.claim")


def _submit_claim(folder: str, number: int) -> str:
    return os.path.join(folder, f"submit-{number}.claim")


def _is_stop(path: str) -> bool:
    with suppress(ValueError):
        return read_json(path) == _STOPPED
    return False


def look(question: Plan) -> Dict[str, Any]:
    """Return, by folder, its files whose names match: how old and how large each is, and what is in it if that is short.

    None stands for a folder that is not there. A folder that cannot be read now is left out, so that it keeps no other from being told. NERSC may
    bound what a command writes: "left" are the folders for which there is no room. The first of them always has its room.
    """
    _remove_old_plans(question["plans"])
    wanted = re.compile(question["names"])
    short = re.compile(question["told"])
    folders: Dict[str, Any] = {}
    left: List[str] = list(question["folders"])
    room: int = question["room"]
    while left:
        with suppress(OSError):
            files = _look(left[0], wanted, short, question["room"])
            size = len(left[0]) + len(json.dumps(files))
            if folders and size > room:
                break
            folders[left[0]] = files
            room -= size
        del left[0]
    return {"folders": folders, "left": left}


def _look(
    folder: str, wanted: re.Pattern[str], told: re.Pattern[str], room: int
) -> Dict[str, Any] | None:
    """Return what a folder tells; what is in its files only as far as there is room for it."""
    files: Dict[str, Any] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if wanted.fullmatch(entry.name):
                    file = _describe(entry, is_told=bool(told.fullmatch(entry.name)))
                    if len(json.dumps(file)) > room:
                        file.pop("text", None)
                    room -= len(json.dumps(file))
                    files[entry.name] = file
    except FileNotFoundError:
        return None
    return files


def _describe(entry: os.DirEntry[str], *, is_told: bool) -> Dict[str, Any]:
    with suppress(FileNotFoundError):
        found = os.stat(entry.path)
        if stat.S_ISREG(found.st_mode):
            answer: Dict[str, Any] = {
                "age": max(0.0, time.time() - found.st_mtime),
                "size": found.st_size,
            }
            if is_told and found.st_size <= MAX_INLINE:
                with open(entry.path, encoding="utf-8", errors="replace") as file:
                    answer["text"] = file.read(MAX_INLINE)
            return answer
    return {"age": 0.0, "size": 0}


def _remove_old_plans(folder: str) -> None:
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                if time.time() - entry.stat().st_mtime > _PLAN_SECONDS:
                    os.unlink(entry.path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
