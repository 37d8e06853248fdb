"""Containers of docker and podman, whose command lines are alike.

A container is first created and then started, so that a failure before its program runs can be distinguished from the
program's own; the runtime is then asked how it ended.
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

from cts_core.worker.advice import AGAIN, MORE_MEMORY
from cts_core.worker.backoff import exponential_delay
from cts_core.worker.container_folder import OUTPUTS, STREAMS, ContainerFolder
from cts_core.worker.plan import WorkerPlan
from cts_core.worker.runtimes import command as cli
from cts_core.worker.runtimes.base import (
    ContainerExit,
    ContainerRuntimeError,
    Sleep,
    open_permissions,
)
from cts_core.worker.runtimes.cgroup import Cgroup
from cts_core.worker.runtimes.docker_cli import (
    PID_FILE,
    container_name,
    create_command,
    pull_command,
    reclaim_command,
    remove_container,
)
from cts_core.worker.runtimes.errors import start_failure
from cts_core.worker.runtimes.liveness import LivenessSocket
from cts_core.worker.runtimes.memory import Memory, MemoryPeak
from cts_core.worker.runtimes.processes import TAG
from cts_core.worker.runtimes.pull import pull
from cts_core.worker.units import format_memory

_SIGKILL_EXIT = 128 + SIGKILL
_MAX_TRIES = 3
"""The most kills before the runtime's own command is killed, and the most tries at a removal."""
_SIGNAL_TIMEOUT = 10.0
"""The timeout for a runtime that sends a signal."""
_FIRST_INSPECT_SECONDS = 0.1
"""The interval before the container's process is inspected again; it doubles each time."""
SETTLE_SECONDS = 10.0
"""Seconds that a runtime may take to notice the end of a container whose command has ended."""
_RUNNING_STATES = ("running", "paused", "restarting", "stopping")
_OOM_FILE = "oom"
_NEVER = "0001-01-01"


class DockerContainer:
    """See Container."""

    is_suspended_with_us = False

    def __init__(self, plan: WorkerPlan, folder: ContainerFolder) -> None:
        self.cpu_seconds: float | None = None
        self._plan = plan
        self._folder = folder
        # Its id once it is created: the name may by then be that of a later run on this machine, which removed this one's. Of a
        # creation that was interrupted only the name is known.
        self._container = container_name(plan.tag)
        self._foreign_platform = ""
        self._liveness: LivenessSocket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._cgroup: Cgroup | None = None
        self._memory = MemoryPeak()
        self._pidfd: int | None = None
        self._next_inspect, self._inspections = 0.0, 0
        self._memory_kills = 0
        self._kills = 0
        self._removals = 0

    def _run(
        self, *arguments: str, sleep: Sleep = time.sleep, timeout: float = cli.COMMAND_TIMEOUT
    ) -> cli.CommandResult:
        return cli.run([*self._plan.runtime_command, *arguments], sleep=sleep, timeout=timeout)

    def prepare(self, sleep: Sleep) -> None:
        """See Container: pull the image, unless it is present."""
        open_permissions(self._plan, self._folder)
        if self._has_image(sleep):
            return
        pull(pull_command(self._plan), self._plan.image, sleep)
        if not self._has_image(sleep):
            raise ContainerRuntimeError(
                f"The image {self._plan.image} was fetched, and is gone again: an administrator has to see "
                "what removes images from this machine."
            )

    def _has_image(self, sleep: Sleep) -> bool:
        template = "{{.Os}}/{{.Architecture}}"
        result = self._run("image", "inspect", "--format", template, self._plan.image, sleep=sleep)
        if result.code == 0:
            self._foreign_platform = _foreign_platform(result.out.strip())
        return result.code == 0

    def map_paths(self, text: str) -> str:
        """See Container."""
        return text

    def start(self, sleep: Sleep) -> subprocess.Popen[bytes]:
        """See Container."""
        self._liveness = LivenessSocket()
        command = create_command(self._plan, self._folder, self._liveness.labels)
        result = cli.run(command, sleep=sleep)
        if result.code:
            # The name may be that of a container which is not ours.
            self._container = ""
            raise ContainerRuntimeError(start_failure(self._plan.entrypoint[0], result.message))
        if result.err:
            # Such as a limit that this machine does not enforce.
            sys.stderr.write(result.err)
        self._container = (result.out.split() or [self._container])[-1]
        if self._plan.container_runtime == "podman":
            # The control group then exists before the program begins, which may end at once. Why it fails, start tells again.
            self._run("init", self._container, sleep=sleep)
            self._find_cgroup()
        self._process = subprocess.Popen(  # noqa: S603 - the runtime that an operator chose
            [*self._plan.runtime_command, "start", "--attach", self._container],
            env={**cli.environment(), TAG: self._plan.tag},
            # Podman's monitor writes a file here when the kernel kills for want of memory.
            cwd=self._folder.path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=cli.preexec_hook(),  # noqa: PLW1509 - see there
        )
        return self._process

    def sample(self) -> int:
        """See Container: the runtime enforces the limit."""
        usage = self._cgroup.read() if self._cgroup else None
        if usage:
            if usage.memory is not None:
                self._memory.add(usage.memory)
            self._memory.add_total(usage.peak_memory or 0)
            self.cpu_seconds = usage.cpu_seconds
            self._memory_kills = usage.killed
        return 0

    @property
    def peak_memory(self) -> Memory | None:
        """See Container."""
        return self._memory.peak

    def _find_cgroup(self) -> None:
        pid = self._pid()
        if pid:
            with suppress(OSError):
                self._cgroup = Cgroup.of(pid, self._container)
                if self._cgroup is not None:
                    self._pidfd = os.pidfd_open(pid)

    def _pid(self) -> int:
        if self._plan.container_runtime == "podman":
            with suppress(OSError, ValueError), open(self._folder.file(PID_FILE)) as file:
                return int(file.read())
            return 0
        if time.monotonic() < self._next_inspect:
            return 0
        interval = exponential_delay(self._inspections, first=_FIRST_INSPECT_SECONDS)
        self._next_inspect = time.monotonic() + interval
        self._inspections += 1
        # Only for statistics, for which a busy runtime must not hold up the container.
        with suppress(ContainerRuntimeError, ValueError):
            template = "{{.State.Pid}}"
            result = self._run(
                "inspect", "--format", template, self._container, timeout=_SIGNAL_TIMEOUT
            )
            return int(result.out)
        return 0

    def exit_fd(self) -> int | None:
        """See Container."""
        if self._cgroup is None:
            self._find_cgroup()
        fd, self._pidfd = self._pidfd, None
        return fd

    def on_child_exit(self, pid: int, usage: resource.struct_rusage) -> None:
        """See Container: our children's usage is that of the runtime's commands, not the container's."""

    def signal(self, number: int) -> bool:
        """See Container."""
        if number == SIGKILL:
            self._kills += 1
            if self._kills > _MAX_TRIES and self._process is not None:
                self._process.kill()
        # A container that has just ended cannot receive it.
        with suppress(ContainerRuntimeError):
            self._run(
                "kill", "--signal", Signals(number).name, self._container, timeout=_SIGNAL_TIMEOUT
            )
        return True

    def describe_exit(self, code: int) -> ContainerExit:
        """See Container."""
        self.sample()
        state = self._state()
        if state.get("Status") in _RUNNING_STATES:
            # The attached command ended early, as when the runtime restarts: further output is lost.
            return ContainerExit(
                None,
                f"{self._plan.container_runtime} lost sight of the container while it ran, and it was stopped. {AGAIN}",
            )
        if not state:
            # Without a state, even exit code 0 proves nothing.
            reason = f"{self._plan.container_runtime} does not say how it ended. {AGAIN}"
            return ContainerExit(code or None, reason)
        if state.get("StartedAt", "").startswith(_NEVER):
            return ContainerExit(
                None, start_failure(self._plan.entrypoint[0], self._start_error(state))
            )
        self._reclaim_outputs()
        code = state.get("ExitCode", code)
        return ContainerExit(
            code, self._exit_reason(code, is_out_of_memory=bool(state.get("OOMKilled")))
        )

    def _state(self) -> dict[str, Any]:
        """Return the runtime's state of the container, once that is not running any more; empty when there is none."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            try:
                result = self._run("inspect", "--format", "{{json .State}}", self._container)
                state = json.loads(result.out)
            except (ContainerRuntimeError, ValueError):
                return {}
            if state.get("Status") not in _RUNNING_STATES or time.monotonic() > deadline:
                return dict(state)
            time.sleep(_FIRST_INSPECT_SECONDS)

    def _reclaim_outputs(self) -> None:
        """Take ownership of outputs of other users, which we might be unable to read or remove."""
        ours = os.geteuid()
        if ours == 0 or not _is_foreign(self._folder.file(OUTPUTS), ours):
            return
        try:
            info = self._run("info", "--format", "{{json .}}").out
            command = reclaim_command(
                self._plan, self._folder, is_rootless='"name=rootless"' in info
            )
            result = cli.run(command)
        except ContainerRuntimeError as e:
            sys.stderr.write(f"{e}\n")
        else:
            sys.stderr.write(result.err)

    def _start_error(self, state: dict[str, Any]) -> str:
        # The program never ran, so all output is the runtime's.
        with suppress(OSError), open(self._folder.file(f"{STREAMS[1]}.txt")) as file:
            return cli.tail(str(state.get("Error") or file.read()))
        return ""

    def _exit_reason(self, code: int, *, is_out_of_memory: bool) -> str | None:
        if code == 0:
            return None
        limit = format_memory(self._plan.memory)
        is_out_of_memory = is_out_of_memory or os.path.exists(self._folder.file(_OOM_FILE))
        if is_out_of_memory or self._memory_kills:
            return (
                f"It was killed when it needed more memory than its limit of {limit}. {MORE_MEMORY}"
            )
        if code == _SIGKILL_EXIT and self._kills == 0:
            return (
                f"It was killed (exit code {code}), most likely for want of memory: its limit is {limit}. "
                f"{MORE_MEMORY}"
            )
        if self._foreign_platform:
            return f"Container exit code: {code}. {self._foreign_platform}"
        return None

    def remove(self) -> bool:
        """See Container."""
        if self._removals == _MAX_TRIES:
            return False
        self._removals += 1
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
        if self._liveness is not None:
            # What cannot be removed now, other workers may remove.
            self._liveness.close()
        try:
            if self._container:
                remove_container(self._plan.runtime_command, self._container)
            self._removals = _MAX_TRIES
        except ContainerRuntimeError as e:
            sys.stderr.write(f"{e}\n")
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
        return True


def _is_foreign(folder: str, owner: int) -> bool:
    """Return whether a folder contains an entry that another user owns, or that cannot be read."""
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


def _foreign_platform(platform: str) -> str:
    """Return a sentence about an image for another kind of processor than this machine's; empty if it fits."""
    system, _, architecture = platform.partition("/")
    machine = os.uname().machine
    ours = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
    if (system, architecture) == ("linux", ours) or not architecture:
        return ""
    return f"Its image is for {platform}, and this machine is {ours}."
