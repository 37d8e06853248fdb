"""Containers of docker and podman, whose command lines are alike.

A container is made first and started then, so that what fails before its program runs is told apart from what the program
ends with, and the engine is asked how it ended.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from contextlib import suppress
from signal import SIGKILL, Signals
from typing import Any

from cts_core.worker.container_folder import OUTPUTS, STREAMS, ContainerFolder
from cts_core.worker.plan import WorkerPlan
from cts_core.worker.runtimes import command as cli
from cts_core.worker.runtimes.base import ContainerRuntimeError, Exit, Pause, open_up
from cts_core.worker.runtimes.cgroup import Cgroup
from cts_core.worker.runtimes.docker_cli import (
    PID_FILE,
    create_command,
    name_of,
    pull_command,
    reclaim_command,
    remove_container,
)
from cts_core.worker.runtimes.errors import start_failure
from cts_core.worker.runtimes.liveness import Holder
from cts_core.worker.runtimes.processes import TAG
from cts_core.worker.runtimes.pull import pull
from cts_core.worker.units import format_memory

_KILLED = 128 + SIGKILL
_TRIES = 3
"""Of kills, before the engine's own command is killed, and of removals."""
_SIGNAL_SECONDS = 10.0
"""The patience with an engine that is to send a signal."""
_FIRST_ASK_SECONDS = 0.1
"""From one question for the container's process to the next; each time twice as long."""
SETTLE_SECONDS = 10.0
"""What an engine may take to notice the end of a container whose command has ended."""
_UNDER_WAY = ("running", "paused", "restarting", "stopping")
_OOM_FILE = "oom"
_NEVER = "0001-01-01"


class EngineContainer:
    """See Container."""

    is_suspended_with_us = False

    def __init__(self, plan: WorkerPlan, folder: ContainerFolder) -> None:
        self.peak: int | None = None
        self.cpu_seconds: float | None = None
        self._plan = plan
        self._folder = folder
        self._name = name_of(plan.tag)
        self._id = ""
        self._other_processor = ""
        self._holder: Holder | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._cgroup: Cgroup | None = None
        self._pidfd: int | None = None
        self._ask_at, self._ask_pause = 0.0, _FIRST_ASK_SECONDS
        self._memory_kills = 0
        self._kills = 0
        self._removals = 0

    def _run(
        self, *words: str, pause: Pause = time.sleep, patience: float = cli.COMMAND_SECONDS
    ) -> cli.Answer:
        return cli.run([*self._plan.runtime_command, *words], pause=pause, patience=patience)

    def prepare(self, pause: Pause) -> None:
        """See Container: fetch the image, unless it is here."""
        open_up(self._plan, self._folder)
        if self._is_here(pause):
            return
        pull(pull_command(self._plan), self._plan.image, pause)
        if not self._is_here(pause):
            raise ContainerRuntimeError(
                f"The image {self._plan.image} was fetched, and is gone again: an administrator has to see "
                "what removes images from this machine."
            )

    def _is_here(self, pause: Pause) -> bool:
        form = "{{.Os}}/{{.Architecture}}"
        answer = self._run("image", "inspect", "--format", form, self._plan.image, pause=pause)
        if answer.code == 0:
            self._other_processor = _other_processor(answer.out.strip())
        return answer.code == 0

    def place(self, text: str) -> str:
        """See Container."""
        return text

    def start(self, pause: Pause) -> subprocess.Popen[bytes]:
        """See Container."""
        self._holder = Holder()
        command = create_command(self._plan, self._folder, self._holder.labels)
        answer = cli.run(command, pause=pause)
        if answer.code:
            raise ContainerRuntimeError(start_failure(self._plan.entrypoint[0], answer.said))
        if answer.err:
            # Such as a limit that this machine does not keep.
            sys.stderr.write(answer.err)
        self._id = (answer.out.split() or [""])[-1]
        self._process = subprocess.Popen(  # noqa: S603 - the runtime that an operator chose
            [*self._plan.runtime_command, "start", "--attach", self._name],
            env={**cli.environment(), TAG: self._plan.tag},
            # Where podman's monitor leaves word of a kill for want of memory.
            cwd=self._folder.path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=cli.preparation(),  # noqa: PLW1509 - see there
        )
        return self._process

    def look(self) -> int:
        """See Container: the engine keeps the limit."""
        usage = self._cgroup.read() if self._cgroup else None
        if usage:
            self.peak = max(self.peak or 0, usage.peak or 0) or None
            self.cpu_seconds = usage.cpu_seconds
            self._memory_kills = usage.killed
        return 0

    def _find_cgroup(self) -> None:
        pid = self._pid()
        if pid and self._id:
            with suppress(OSError):
                self._cgroup = Cgroup.of(pid, self._id)
                if self._cgroup is not None:
                    self._pidfd = os.pidfd_open(pid)

    def _pid(self) -> int:
        if self._plan.container_runtime == "podman":
            with suppress(OSError, ValueError), open(self._folder.file(PID_FILE)) as file:
                return int(file.read())
            return 0
        if time.monotonic() < self._ask_at:
            return 0
        self._ask_at = time.monotonic() + self._ask_pause
        self._ask_pause *= 2
        # It is for the figures alone, which a busy engine must not cost the container.
        with suppress(ContainerRuntimeError, ValueError):
            form = "{{.State.Pid}}"
            answer = self._run("inspect", "--format", form, self._name, patience=_SIGNAL_SECONDS)
            return int(answer.out)
        return 0

    def exit_fd(self) -> int | None:
        """See Container."""
        if self._cgroup is None:
            self._find_cgroup()
        found, self._pidfd = self._pidfd, None
        return found

    def reaped(self, usage: resource.struct_rusage) -> None:
        """See Container: what a child of ours used is the engine's, not the container's."""

    def signal(self, number: int) -> bool:
        """See Container."""
        if number == SIGKILL:
            self._kills += 1
            if self._kills > _TRIES and self._process is not None:
                self._process.kill()
        # One that has just ended cannot be told to.
        with suppress(ContainerRuntimeError):
            self._run(
                "kill", "--signal", Signals(number).name, self._name, patience=_SIGNAL_SECONDS
            )
        return True

    def ended(self, code: int) -> Exit:
        """See Container."""
        self.look()
        state = self._state()
        if state.get("Status") in _UNDER_WAY:
            # Its own command is gone, such as by a restart of the engine: what it writes is not seen any more.
            return Exit(
                None,
                f"{self._plan.container_runtime} lost sight of the container while it ran, and it was stopped. Submit "
                "it again.",
            )
        if not state:
            # Not even that it ended well is certain.
            why = f"{self._plan.container_runtime} does not say how it ended. Submit it again."
            return Exit(code or None, why)
        if state.get("StartedAt", "").startswith(_NEVER):
            return Exit(None, start_failure(self._plan.entrypoint[0], self._complaint(state)))
        self._reclaim()
        code = state.get("ExitCode", code)
        return Exit(code, self._why(code, is_out_of_memory=bool(state.get("OOMKilled"))))

    def _state(self) -> dict[str, Any]:
        """What the engine says of it, once it has noticed the end; empty when it says nothing."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            try:
                answer = self._run("inspect", "--format", "{{json .State}}", self._name)
                state = json.loads(answer.out)
            except (ContainerRuntimeError, ValueError):
                return {}
            if state.get("Status") not in _UNDER_WAY or time.monotonic() > deadline:
                return dict(state)
            time.sleep(_FIRST_ASK_SECONDS)

    def _reclaim(self) -> None:
        """Have outputs that others own, where that may keep us from reading and removing them."""
        ours = os.geteuid()
        if ours == 0 or not _is_foreign(self._folder.file(OUTPUTS), ours):
            return
        try:
            about = self._run("info", "--format", "{{json .}}").out
            command = reclaim_command(
                self._plan, self._folder, is_rootless='"name=rootless"' in about
            )
            answer = cli.run(command)
        except ContainerRuntimeError as e:
            sys.stderr.write(f"{e}\n")
        else:
            sys.stderr.write(answer.err)

    def _complaint(self, state: dict[str, Any]) -> str:
        # It never wrote anything, so that all there is comes from the engine.
        with suppress(OSError), open(self._folder.file(f"{STREAMS[1]}.txt")) as file:
            return cli.tail(str(state.get("Error") or file.read()))
        return ""

    def _why(self, code: int, *, is_out_of_memory: bool) -> str | None:
        if code == 0:
            return None
        limit = format_memory(self._plan.memory)
        is_out_of_memory = is_out_of_memory or os.path.exists(self._folder.file(_OOM_FILE))
        if is_out_of_memory or self._memory_kills:
            return f"It was killed when it needed more memory than its limit of {limit}. Submit it again with more memory."
        if code == _KILLED and self._kills == 0:
            return (
                f"It was killed (exit code {code}), most likely for want of memory: its limit is {limit}. Submit it "
                "again with more memory."
            )
        if self._other_processor:
            return f"Container exit code: {code}. {self._other_processor}"
        return None

    def remove(self) -> bool:
        """See Container."""
        if self._removals == _TRIES:
            return False
        self._removals += 1
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
        if self._holder is not None:
            # What we cannot remove now, others may.
            self._holder.close()
        try:
            remove_container(self._plan.runtime_command, self._plan.tag)
            self._removals = _TRIES
        except ContainerRuntimeError as e:
            sys.stderr.write(f"{e}\n")
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
        return True


def _is_foreign(folder: str, owner: int) -> bool:
    """Whether anything in a folder belongs to somebody else, or cannot be looked at."""
    waiting = [folder]
    try:
        while waiting:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.stat(follow_symlinks=False).st_uid != owner:
                        return True
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
    except OSError:
        return True
    return False


def _other_processor(platform: str) -> str:
    """A sentence, when an image is for another kind of processor than this machine's."""
    system, _, architecture = platform.partition("/")
    machine = os.uname().machine
    ours = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
    if (system, architecture) == ("linux", ours) or not architecture:
        return ""
    return f"Its image is for {platform}, and this machine is {ours}."
