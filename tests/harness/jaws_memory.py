"""NERSC, JAWS, an object store and records in memory, on a virtual clock: for thousands of jobs, and for servers that die anywhere.

Real are the driver, both sites, what they share, their steps and their looks. Made up are the clients of NERSC and JAWS, the helper at NERSC (it
claims, works and ends as ``cts_core.worker.nersc`` does, and moves no bytes), the object store, and of the record store what a driver needs.
"""

from __future__ import annotations

import asyncio
import json
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from pydantic import SecretStr

from cts_core.engine import driver
from cts_core.engine.driver import Driver
from cts_core.engine.jobs import cancel_job
from cts_core.errors import NoSuchJobError, PathNotFoundError, UnavailableError
from cts_core.model.record import ContainerRecord, ContainerTransition, JobRecord, set_fields
from cts_core.model.site import SiteName
from cts_core.object_paths import FolderPath
from cts_core.objects.s3.presign import PresignedPost
from cts_core.objects.store import ChecksumState, ObjectPage, StoredObject
from cts_core.records.store import FIRST_CONTAINER_STATES
from cts_core.sites.jaws import commands, facility, site
from cts_core.sites.jaws.central import Run
from cts_core.sites.jaws.facility import Facility
from cts_core.sites.jaws.layout import JAWS_SITES, Machine
from cts_core.sites.jaws.setup import JAWSSetup
from cts_core.sites.jaws.sfapi import SFAPIError, Task, TaskState
from cts_core.sites.jaws.site import JAWSSite
from cts_core.sites.site import ClientInfo
from cts_core.states import TERMINAL, JobState
from tests.harness.factories import CRC, NOON, make_image, make_job_record, make_transition
from tests.harness.jaws_vectors import LAYOUT
from tests.harness.virtual_time import run_in_virtual_time

_T = TypeVar("_T")
LOG_DIR = FolderPath("logs/cts/")
_CLAIM = re.compile(r"submit-([1-9][0-9]*)\.claim")
_STOP = "stop"
RESULTS = "/global/results/"


def monotonic() -> float:
    return asyncio.get_running_loop().time()


def now() -> datetime:
    return NOON + timedelta(seconds=monotonic())


def _seen_from_dtns(path: str) -> str:
    return f"/global{path}" if path.startswith("/pscratch/") else path


def _failure(reason: str) -> dict[str, Any]:
    return {"result": "fail", "job_msg": reason, "lasting": False}


class Life:
    """The life of a server. Whatever it does to others passes here, and at one of these points it can be killed or frozen."""

    def __init__(self, stop_at: int = 0) -> None:
        """``stop_at`` counts the points from 1; with 0 it goes on."""
        self.points: list[str] = []
        self.is_stopped = asyncio.Event()
        self._stop_at = stop_at
        self._awake = asyncio.Event()
        self._awake.set()

    async def act(self, name: str, effect: Callable[[], _T]) -> _T:
        """Have an effect, with a point right before it and one right after it."""
        await self._pass(f"before {name}")
        result = effect()
        await self._pass(f"after {name}")
        return result

    async def ask(self, question: Callable[[], _T]) -> _T:
        await self._awake.wait()
        return question()

    async def _pass(self, point: str) -> None:
        await self._awake.wait()
        self.points.append(point)
        if len(self.points) == self._stop_at:
            self.stop()
        await self._awake.wait()

    def stop(self) -> None:
        """Kill the server; one that is thawed was only frozen."""
        self._awake.clear()
        self.is_stopped.set()

    def thaw(self) -> None:
        self._awake.set()


@dataclass
class HelperFate:
    """What happens to one helper."""

    delay: float = 0.5
    """Seconds until its command begins."""
    seconds: float = 8.0
    is_lost: bool = False
    """Whether its command never begins."""
    dies: str | None = None
    """``claimed``: in the middle of its work; ``done``: after it, before that is written down."""
    fails: str | None = None
    """Why another attempt is needed."""


@dataclass
class RunFate:
    """What happens to the run of one job."""

    seconds: float = 30.0
    result: str | None = "succeeded"
    told_after: float = 0.0
    """Seconds from its end until JAWS says where its results are."""
    left_after: float = 0.0
    """Seconds from its end until ``outputs.json`` or ``errors.json`` is there."""


@dataclass
class MemoryRun:
    id: str
    tag: str
    site: str
    begun: float
    over: float
    result: str | None
    told: float
    """When JAWS says where its results are."""
    left: float
    """When they are there."""
    is_cancelled: bool = False

    @property
    def is_over(self) -> bool:
        return self.is_cancelled or monotonic() >= self.over

    @property
    def folder(self) -> str:
        return f"{RESULTS}{self.id}/x"


@dataclass
class _File:
    text: str
    touched: float | None = None
    """None while its helper touches it."""

    def describe(self, name: str) -> dict[str, Any]:
        age = 0.0 if self.touched is None else monotonic() - self.touched
        told = {"age": age, "size": len(self.text)}
        return {**told, "text": self.text} if name.endswith(".json") else told


@dataclass
class MemoryWorld:
    """All that servers share."""

    helper_fate: Callable[[str, str], HelperFate] = lambda _job, _step: HelperFate()
    run_fate: Callable[[str], RunFate] = lambda _job: RunFate()
    is_down: Callable[[str], bool] = lambda _system: False
    """Of ``sfapi``, ``perlmutter``, ``dtns``, ``jaws``, ``kbase`` and ``jgi``, and of ``results``, the file system that they are on."""
    doubles_commands: bool = False
    command_seconds: Callable[[int], float] = lambda _number: 0.0
    """How long NERSC needs for a short command, by its number; infinitely long for one that it loses."""
    key: int = 0
    """Of the client in the key file, by a number."""
    refused_keys: set[int] = field(default_factory=set)
    client_end: datetime = NOON + timedelta(days=1000)
    refusals: int = 0
    """How often a client was refused."""
    plans: dict[str, dict[str, Any]] = field(default_factory=dict)
    folders: dict[str, dict[str, _File]] = field(default_factory=dict)
    runs: dict[str, MemoryRun] = field(default_factory=dict)
    objects: dict[str, StoredObject] = field(default_factory=dict)
    jobs: dict[str, JobRecord] = field(default_factory=dict)
    containers: dict[str, list[ContainerRecord]] = field(default_factory=dict)
    live: dict[str, None] = field(default_factory=dict)
    leases: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    servers: list[MemoryServer] = field(default_factory=list)
    done: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often a step of a job was done to its end."""
    worked: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """By job, from when to when helpers and runs have worked for it."""
    commands: int = 0
    """Short commands that NERSC has taken."""
    _told: dict[str, tuple[float, str]] = field(default_factory=dict)
    """When a short command ends, and what it writes, by the id of its task."""
    _helpers: dict[asyncio.Task[None], Machine] = field(default_factory=dict)

    # -- jobs --

    def add_job(self, template: JobRecord, job_id: str) -> str:
        output_dir = f"data/out/{job_id}/"
        job_input = template.job_input.model_copy(update={"output_dir": output_dir})
        created = [make_transition(time=now(), recorded_at=now())]
        changes = {"id": job_id, "job_input": job_input, "transition_times": created}
        self.jobs[job_id] = template.model_copy(update=changes)
        self.live[job_id] = None
        steps = [ContainerTransition(state=s, time=now()) for s in FIRST_CONTAINER_STATES]
        self.containers[job_id] = [
            ContainerRecord(id=job_id, sub_id=n, state=steps[-1].state, transition_times=steps)
            for n in range(job_input.num_containers)
        ]
        for file in job_input.input_files:
            self.put(file.file, file.crc64nvme or "")
        return job_id

    def lived(self, job_id: str) -> tuple[float, float]:
        """Return when a job that has ended began and ended."""
        steps = self.jobs[job_id].transition_times
        begin, end = ((step.time - NOON).total_seconds() for step in (steps[0], steps[-1]))
        return begin, end

    def put(self, path: str, crc64nvme: str) -> None:
        self.objects[path] = StoredObject(
            path=path,
            size=1,
            etag="e",
            content_type="",
            modified=now(),
            checksum=ChecksumState.STORED,
            crc64nvme=crc64nvme,
        )

    # -- commands --

    def run_command(self, output: str) -> str:
        """Return the id of the task of a short command that writes this."""
        self.commands += 1
        task_id = f"command {self.commands}"
        self._told[task_id] = (monotonic() + self.command_seconds(self.commands), output)
        return task_id

    def find_task(self, task_id: str) -> Task:
        ends, output = self._told.get(task_id, (0.0, None))
        if output is None:
            return Task(TaskState.GONE)
        if monotonic() < ends:
            return Task(TaskState.NEW)
        del self._told[task_id]
        return Task(TaskState.COMPLETED, is_ok=True, output=output)

    # -- helpers --

    def begin(self, machine: Machine, words: Sequence[str]) -> None:
        for _ in range(1 + self.doubles_commands):
            task = asyncio.create_task(self._attempt(*words[1:]))
            self._helpers[task] = machine
            task.add_done_callback(self._helpers.pop)

    def kill_helpers(self, machine: str) -> None:
        for task, runs_on in list(self._helpers.items()):
            if runs_on == machine:
                task.cancel()

    async def _attempt(self, folder: str, step: str, number: str, plan_path: str) -> None:
        folder, plan_path = _seen_from_dtns(folder), _seen_from_dtns(plan_path)
        job_id = folder.rpartition("/")[2]
        fate = self.helper_fate(job_id, step)
        if fate.is_lost:
            return
        await asyncio.sleep(fate.delay)
        plan = self.plans.get(plan_path)
        files = self.folders.setdefault(folder, {})
        if plan is None or f"{step}-{number}.claim" in files:
            return
        claim = files[f"{step}-{number}.claim"] = _File("")
        self.plans.pop(plan_path, None)
        begun = monotonic()
        try:
            await asyncio.sleep(fate.seconds)
            if fate.dies == "claimed":
                return
            if fate.fails is not None:
                end = _failure(fate.fails)
            else:
                data = self._do(step, files, int(number), plan)
                if fate.dies == "done":
                    return
                self.done[job_id, step] += 1
                end = {"result": "success", "data": data}
        except RuntimeError as e:
            end = _failure(str(e))
        finally:
            claim.touched = monotonic()
            self.worked.setdefault(job_id, []).append((begun, monotonic()))
        files[f"{step}-{number}.json"] = _File(json.dumps(end), monotonic())
        for server in self.servers:
            server.call_back(job_id)

    def submit_late(self, job_id: str, number: int = 0) -> MemoryRun:
        """Have JAWS take a run of an attempt that was taken for lost, or failed; a helper that goes on writes it down as attempt ``number``."""
        first = next(run for run in self.runs.values() if run.tag == job_id)
        run = self._run(job_id, first.site)
        if number:
            end = json.dumps({"result": "success", "data": {"run_id": int(run.id)}})
            (folder,) = (name for name in self.folders if name.endswith(f"/{job_id}"))
            self.folders[folder][f"submit-{number}.claim"] = _File("", monotonic())
            self.folders[folder][f"submit-{number}.json"] = _File(end, monotonic())
        return run

    def _do(self, step: str, files: dict[str, _File], number: int, plan: Mapping[str, Any]) -> Any:
        if step in ("checksums", "upload", "logs") and self.is_down("results"):
            raise RuntimeError("[Errno 2] No such file or directory: '/global/results'")
        match step:
            case "submit":
                if f"submit-{number + 1}.claim" in files:
                    raise RuntimeError("A later attempt has begun, or the job was canceled")
                *_, tag, _wdl, _inputs, at = plan["command"]
                return {"run_id": int(self._run(tag, at).id)}
            case "checksums":
                sums = [{**file, "crc64nvme": CRC, "size": 1} for file in plan["files"]]
                files[plan["sums"]] = _File(json.dumps({"root": plan["root"], "files": sums}))
            case "upload":
                for file in plan["files"]:
                    self.put(file["name"], file["crc64nvme"])
            case "logs":
                (errors,) = self.results(posixpath.dirname(plan["errors_json"])) or [None]
                shards = {"0": [3, "it failed"]} if errors else {}
                return {"shards": shards, "message": None}
        return None

    def _run(self, tag: str, at: str) -> MemoryRun:
        fate, begun = self.run_fate(tag), monotonic()
        run_id = str(1000 + len(self.runs))
        over = begun + fate.seconds
        told, left = over + fate.told_after, over + fate.left_after
        run = MemoryRun(run_id, tag, at, begun, over, fate.result, told, left)
        self.runs[run_id] = run
        return run

    def results(self, folder: str) -> dict[str, _File] | None:
        """Return what is in the ``output_dir`` of a run; None if that is not there."""
        if self.is_down("results"):
            return None
        run = self.runs[folder.split("/")[3]]
        name = "outputs.json" if run.result == "succeeded" else "errors.json"
        return {name: _File("{}", run.left)} if monotonic() >= run.left else {}

    def look(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        answer: dict[str, Any] = {}
        for folder in question["folders"]:
            is_of_run = folder.startswith(RESULTS)
            files = self.results(folder) if is_of_run else self.folders.get(folder)
            answer[folder] = (
                None
                if files is None
                else {name: file.describe(name) for name, file in files.items()}
            )
        return {"folders": answer, "left": []}

    def keep_from_submission(self, folder: str) -> list[int]:
        for path in [path for path in self.plans if f"/{folder.rpartition('/')[2]}." in path]:
            del self.plans[path]
        files = self.folders.setdefault(folder, {})
        begun = sorted(int(match[1]) for name in files if (match := _CLAIM.fullmatch(name)))
        if begun and files[f"submit-{begun[-1]}.claim"].text == _STOP:
            return begun[:-1]
        number = (begun or [0])[-1] + 1
        files[f"submit-{number}.claim"] = _File(_STOP, monotonic())
        return begun


class _NERSC:
    """The client of NERSC of one server."""

    def __init__(self, world: MemoryWorld, life: Life) -> None:
        self._world = world
        self._life = life
        self._key = world.key
        self.refusal: str | None = None

    def _check_up(self) -> None:
        if self._world.is_down("sfapi"):
            raise UnavailableError("NERSC answers with status 503")

    def _check(self, machine: Machine | None = None) -> None:
        self._check_up()
        self.refusal = None
        if self._key in self._world.refused_keys:
            self._world.refusals += 1
            self.refusal = f"NERSC gives no token for its client {self._key}"
            raise UnavailableError(self.refusal)
        if machine is not None and self._world.is_down(machine):
            raise SFAPIError(f"NERSC says that a call failed: {machine} is unavailable")

    async def account(self) -> str:
        await self._life.ask(self._check)
        return LAYOUT.user

    async def client(self) -> ClientInfo:
        await self._life.ask(self._check)
        return ClientInfo(str(self._key), self._world.client_end)

    async def run(self, machine: Machine, command: str) -> str:
        if not command.startswith("["):
            return await self._life.ask(
                lambda: self._ended(machine, f"scratch={LAYOUT.scratch[machine]}")
            )
        words, question = json.loads(command)
        if words[0] == "look":
            return await self._life.ask(lambda: self._ended(machine, self._world.look(question)))

        def begin() -> str:
            self._check(machine)
            self._world.begin(machine, words)
            return f"task of {' '.join(words[1:4])}"

        def stop() -> str:
            return self._ended(machine, self._world.keep_from_submission(words[1]))

        return await self._life.act(
            " ".join([words[0], *words[2:4]]), begin if words[0] == "attempt" else stop
        )

    def _ended(self, machine: Machine, answer: object) -> str:
        """Return the id of the task of a short command that writes this."""
        self._check(machine)
        output = answer if isinstance(answer, str) else json.dumps(answer)
        return self._world.run_command(output)

    async def task(self, task_id: str) -> Task:
        def view() -> Task:
            self._check()
            return self._world.find_task(task_id)

        return await self._life.ask(view)

    async def upload(self, machine: Machine, path: str, content: bytes) -> None:
        def write() -> None:
            self._check(machine)
            if path.endswith(".plan"):
                self._world.plans[path] = json.loads(content)

        await self._life.act("upload", write)

    async def download(self, machine: Machine, path: str) -> bytes | None:
        def read() -> bytes | None:
            self._check(machine)
            folder, _, name = path.rpartition("/")
            if name == "outputs.json":
                is_there = name in (self._world.results(folder) or ())
                return json.dumps(self._outputs(folder)).encode() if is_there else None
            file = self._world.folders.get(folder, {}).get(name)
            return None if file is None else file.text.encode()

        return await self._life.ask(read)

    def _outputs(self, folder: str) -> dict[str, Any]:
        run = self._world.runs[folder.split("/")[3]]
        shards = range(self._world.jobs[run.tag].job_input.num_containers)
        place = "./call-run_container/shard-{}/execution"
        files = [[f"{place.format(n)}/__output__/{n}.txt"] for n in shards]
        return {"x.output_files": files, "x.stdouts": [], "x.stderrs": []}

    async def call_back(self, *_: object, **__: object) -> None:
        await self._life.ask(self._check)

    async def status(self, machine: Machine) -> object:
        def view() -> object:
            self._check_up()
            return {"status": "unavailable" if self._world.is_down(machine) else "active"}

        return await self._life.ask(view)

    async def outages(self, _machine: Machine) -> object:
        return []

    planned_outages = outages


class _JAWS:
    """The client of JAWS of one server."""

    def __init__(self, world: MemoryWorld, life: Life) -> None:
        self._world = world
        self._life = life

    def _check(self) -> None:
        if self._world.is_down("jaws"):
            raise UnavailableError("JAWS answers with status 502")

    async def _ask(self, question: Callable[[], _T]) -> _T:
        def ask() -> _T:
            self._check()
            return question()

        return await self._life.ask(ask)

    async def user(self) -> str:
        return await self._ask(lambda: LAYOUT.user)

    async def run(self, run_id: str) -> Run | None:
        def view() -> Run | None:
            run = self._world.runs.get(run_id)
            if run is None:
                return None
            if not run.is_over:
                return Run(run_id, "running", None, None)
            folder = run.folder if monotonic() >= run.told else None
            return Run(run_id, "done", "cancelled" if run.is_cancelled else run.result, folder)

        return await self._ask(view)

    async def describe(self, run_id: str) -> dict[str, Any]:
        run = await self.run(run_id)
        return {} if run is None else {"status": run.status, "result": run.result}

    async def was_cancelled(self, run_id: str) -> bool:
        return await self._ask(lambda: self._world.runs[run_id].is_cancelled)

    async def status(self, name: str) -> object:
        up = {True: "DOWN", False: "UP"}
        return await self._ask(lambda: {f"{name}-Cromwell": up[self._world.is_down(name)]})

    async def cancel(self, run_id: str) -> None:
        def cancel() -> None:
            self._check()
            run = self._world.runs[run_id]
            run.is_cancelled = run.is_cancelled or not run.is_over

        await self._life.act("cancel a run", cancel)

    async def find(self, tag: str, _since: datetime) -> list[str]:
        return await self._ask(
            lambda: [run.id for run in self._world.runs.values() if run.tag == tag]
        )


class _Objects:
    """The object store, as one server sees it."""

    def __init__(self, world: MemoryWorld, life: Life) -> None:
        self._world = world
        self._life = life

    async def head(self, paths: Sequence[str]) -> list[StoredObject | PathNotFoundError]:
        objects = self._world.objects
        return await self._life.ask(lambda: [objects.get(p) or PathNotFoundError(p) for p in paths])

    async def list(self, _prefix: str, **_: object) -> ObjectPage:
        return await self._life.ask(lambda: ObjectPage(objects=[]))

    async def presign_gets(self, paths: Sequence[str], _: timedelta) -> list[SecretStr]:
        return [SecretStr(f"https://s3/{path}") for path in paths]

    async def presign_posts(self, outputs: Sequence[Any], _: timedelta) -> list[PresignedPost]:
        return [PresignedPost(f"https://s3/{output.path}", {}) for output in outputs]

    async def presign_post_below(self, folder: str, _: timedelta, **__: object) -> PresignedPost:
        return PresignedPost("https://s3/", {"key": f"{folder}${{filename}}"})


class MemoryRecords:
    """The records, as one server sees them: what a driver needs of the port ``RecordStore``."""

    def __init__(self, world: MemoryWorld, life: Life) -> None:
        self._world = world
        self._life = life

    async def now(self) -> datetime:
        return await self._life.ask(now)

    async def get_job(self, job_id: str) -> JobRecord:
        def find() -> JobRecord:
            if job_id not in self._world.jobs:
                raise NoSuchJobError(job_id)
            return self._world.jobs[job_id]

        return await self._life.ask(find)

    get_drivable = get_summary = get_job

    async def live_jobs(self, cluster: SiteName, *, owner: str) -> list[JobRecord]:
        def find() -> list[JobRecord]:
            live = [self._world.jobs[job_id] for job_id in self._world.live]
            return [job for job in live if job.cluster is cluster and self._is_free(job.id, owner)]

        return await self._life.ask(find)

    def _is_free(self, job_id: str, owner: str, at: datetime | None = None) -> bool:
        holder, until = self._world.leases.get(job_id, (owner, NOON))
        return holder == owner or until <= (at or now())

    async def take_leases(
        self, job_ids: Collection[str], owner: str, *, now: datetime, until: datetime
    ) -> set[str]:
        def take() -> set[str]:
            free = {job_id for job_id in job_ids if self._is_free(job_id, owner, now)}
            self._world.leases.update(dict.fromkeys(free, (owner, until)))
            return free

        return await self._life.ask(take)

    async def container_states(self, job_id: str) -> list[JobState]:
        return await self._life.ask(lambda: [c.state for c in self._world.containers[job_id]])

    async def states_of_containers(self, job_ids: Collection[str]) -> dict[str, list[JobState]]:
        of = self._world.containers
        return await self._life.ask(lambda: {i: [c.state for c in of[i]] for i in job_ids})

    async def containers(self, job_id: str) -> list[ContainerRecord]:
        return await self._life.ask(lambda: list(self._world.containers[job_id]))

    async def set_wait(self, *_: object) -> None:
        await self._life.ask(lambda: None)

    async def transition(
        self, job_id: str, expected: JobState, new: JobState, *, outcome: Any = None, **_: object
    ) -> bool:
        def move() -> bool:
            job = self._world.jobs[job_id]
            if job.state is not expected:
                return False
            step = make_transition(state=new, time=now(), recorded_at=now())
            steps = [*job.transition_times, step]
            changes = {
                "state": new,
                "transition_times": steps,
                **(set_fields(outcome) if outcome else {}),
            }
            self._world.jobs[job_id] = job.model_copy(update=changes)
            if new in TERMINAL:
                del self._world.live[job_id]
                self._world.leases.pop(job_id, None)
            return True

        return await self._life.act(f"{expected} to {new}", move)

    async def transition_container(
        self,
        job_id: str,
        number: int,
        expected: JobState,
        steps: Sequence[ContainerTransition],
        *,
        outcome: Any = None,
    ) -> bool:
        def move() -> bool:
            container = self._world.containers[job_id][number]
            if container.state is not expected:
                return False
            reached = [*container.transition_times, *steps]
            changes = {"state": steps[-1].state, "transition_times": reached}
            self._world.containers[job_id][number] = container.model_copy(
                update={**changes, **(set_fields(outcome) if outcome else {})}
            )
            return True

        return await self._life.act(f"container {number} to {steps[-1].state}", move)


class _MemoryFacility(Facility):
    def __init__(self, world: MemoryWorld, life: Life, **given: Any) -> None:
        setup = JAWSSetup(
            group=LAYOUT.group,
            user=LAYOUT.user,
            sfapi_cred_path=Path(__file__),
            refdata_root=LAYOUT.refdata_root,
            staging_dir_dtn=LAYOUT.staging[Machine.DTNS],
            staging_dir_perlmutter=LAYOUT.staging[Machine.PERLMUTTER],
            remote_code_dir=LAYOUT.code_root,
            jaws_token=SecretStr("token"),
            log_dir=LOG_DIR,
            root_url="https://cts",
        )
        super().__init__(setup, **given)
        self.central: Any = _JAWS(world, life)
        self._make: Callable[[], Any] = partial(_NERSC, world, life)
        self._world = world
        self._public = self._make()

    async def _key_time(self) -> float:
        return self._world.key

    async def _make_client(self) -> Any:
        modified, client = await self._key_time(), self._make()
        await client.account()
        return facility._Client(client, await client.client(), modified)


class MemoryServer:
    """A server with both sites, in a world that it shares with others."""

    def __init__(
        self,
        world: MemoryWorld,
        life: Life | None = None,
        clusters: Sequence[SiteName] = tuple(JAWS_SITES),
        **given: Any,
    ) -> None:
        """``given`` are arguments of its ``Facility``."""
        self.life = life or Life()
        self._world = world
        self.records: Any = MemoryRecords(world, self.life)
        objects: Any = _Objects(world, self.life)
        shared = self.facility = _MemoryFacility(world, self.life, **given)
        others: Any = SimpleNamespace(wake=lambda: None, publish_progress=lambda _: None)
        self.sites = {
            cluster: JAWSSite(cluster, shared, self.records, objects) for cluster in clusters
        }
        self._drivers = {
            cluster: Driver(of_site, self.records, objects, others, others, log_dir=LOG_DIR)
            for cluster, of_site in self.sites.items()
        }

    async def start(self) -> None:
        for of_site in self._drivers.values():
            await of_site.start()
        self._world.servers.append(self)

    def kill(self) -> None:
        self.life.stop()
        self._world.servers.remove(self)

    def call_back(self, job_id: str) -> None:
        self._drivers[self._world.jobs[job_id].cluster].nudge(job_id)

    def waits_for(self, job_id: str) -> str | None:
        """Return what a job is said to wait for."""
        job = self._world.jobs[job_id]
        return self.sites[job.cluster].waits_for(job)

    async def cancel(self, job_id: str) -> None:
        await cancel_job(self.records, job_id)
        self.wake(job_id)

    def wake(self, job_id: str) -> None:
        self._drivers[self._world.jobs[job_id].cluster].wake(job_id)


def make_template(cluster: SiteName, containers: int = 1) -> JobRecord:
    image = make_image(name="ghcr.io/kbase/tool")
    return make_job_record(
        cluster=cluster.value,
        image=f"{image.name}:latest",
        registered=image,
        num_containers=containers,
        files=containers,
    )


def run_in_memory(work: Callable[[], Coroutine[Any, Any, _T]], *, poll_seconds: float) -> _T:
    """Return what the coroutine returns, in virtual time.

    Sites tell that time, and send their helpers what the helper of a ``MemoryWorld`` reads; drivers look at all jobs each ``poll_seconds``.
    """

    def helper(_machine: object, _code: str, words: Sequence[str], **given: Any) -> str:
        return json.dumps([list(words), given.get("question")])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "helper", helper)
        patch.setattr(site, "utc_now", now)
        patch.setattr(facility, "utc_now", now)
        patch.setattr(facility, "pack_code", lambda: b"")
        patch.setattr(driver, "POLL_SECONDS", poll_seconds)
        return run_in_virtual_time(work)
