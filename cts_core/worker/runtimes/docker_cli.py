"""What docker and podman are told.

Every capability is dropped, new privileges are not to be had, the inputs and reference data can only be read. The user is
the image's, its file system can be written and is thrown away. A container has a name made of its tag, so that it can
be found, and removed, by somebody else.
"""

from __future__ import annotations

import math
import os
import re
import time
from typing import Mapping

from cts_core.worker.container_folder import OUTPUTS, ContainerFolder
from cts_core.worker.plan import WorkerPlan
from cts_core.worker.runtimes import command as cli
from cts_core.worker.runtimes.base import ContainerRuntimeError, as_seen, mounts
from cts_core.worker.runtimes.processes import TAG

LABEL = "cts.container"
"""The label whose value is the container's tag."""
MAX_PROCESSES = 32_768
"""Processes and threads of one container."""
LEFT_SECONDS = 10.0
"""What podman gives a container past its limit, before it ends it instead of a worker that was killed."""
PID_FILE = "container.pid"
"""In the container's folder: what podman writes the id of its first process to."""
_IN_PROGRESS_SECONDS, _AGAIN_SECONDS = 10.0, 0.2
"""The patience with a removal that somebody else has begun, and between two looks at it."""
_SELINUX = "/sys/fs/selinux/enforce"


def name_of(tag: str) -> str:
    """What the engine calls the container of this tag."""
    return f"cts-{re.sub('[^A-Za-z0-9_.-]', '-', tag)}"


def create_command(
    plan: WorkerPlan, folder: ContainerFolder, labels: Mapping[str, str]
) -> list[str]:
    """The command that makes the container. Pure, but for a look at whether the machine labels its files.

    ``labels``: more than the tag.
    """
    is_labeled = os.path.exists(_SELINUX)
    name, *more = plan.entrypoint
    # A tool must not be told apart from the image's own CMD: with an entrypoint of ours there is none.
    command = [
        *(*plan.runtime_command, "create", "--pull", "never", "--name", name_of(plan.tag)),
        *("--log-driver", "none", "--stop-timeout", "0", "--no-healthcheck"),
        *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
        # More cpus than there are, as a site may promise, are refused.
        *("--cpus", str(min(plan.cpus, os.cpu_count() or 1)), "--pids-limit", str(MAX_PROCESSES)),
        # As much with swap as without: no swap.
        *("--memory", str(plan.memory), "--memory-swap", str(plan.memory)),
        *(() if plan.network else ("--network", "none")),
    ]
    for label, value in {LABEL: plan.tag, **labels}.items():
        command += ["--label", f"{label}={value}"]
    if plan.container_runtime == "podman":
        # It would hand on our proxies, whose URLs may hold passwords.
        command += ["--http-proxy=false", "--pidfile", folder.file(PID_FILE)]
        # Whatever becomes of us, it is over then.
        command += ["--timeout", str(math.ceil(plan.runtime + plan.stop_grace + LEFT_SECONDS))]
    for mount, source in mounts(plan, folder).items():
        is_output = mount == plan.output_mount
        options = ["rw" if is_output else "ro"]
        if is_labeled:
            options.append("z" if mount == plan.refdata_mount else "Z")
        command += ["--volume", f"{source}:{mount}:{','.join(options)}"]
    for variable, value in {**plan.environment, TAG: plan.tag}.items():
        command += ["--env", f"{variable}={value}"]
    return [
        *(*command, *plan.runtime_arguments, "--entrypoint", name, plan.image),
        *(*more, *plan.arguments),
    ]


def pull_command(plan: WorkerPlan) -> list[str]:
    """The command that fetches the image. Docker knows by itself which registries it reaches by http."""
    insecure = (
        ["--tls-verify=false"] if plan.plain_http and plan.container_runtime == "podman" else []
    )
    return [*plan.runtime_command, "pull", "--quiet", *insecure, plan.image]


def reclaim_command(plan: WorkerPlan, folder: ContainerFolder, *, is_rootless: bool) -> list[str]:
    """The command that gives the outputs to who runs the worker, whoever they were written as.

    Docker has no other hands for that than a container's: it takes an image with ``chown``.
    """
    outputs = folder.file(OUTPUTS)
    if plan.container_runtime == "podman":
        return [*plan.runtime_command, "unshare", "chown", "-R", "0:0", outputs]
    owner = "0:0" if is_rootless else f"{os.geteuid()}:{os.getegid()}"
    return [
        *(*plan.runtime_command, "run", "--rm", "--pull", "never", "--network", "none"),
        *("--security-opt", "no-new-privileges", "--cap-drop", "ALL"),
        *("--cap-add", "CHOWN", "--cap-add", "DAC_OVERRIDE", "--user", "0:0"),
        *("--volume", f"{as_seen(plan, outputs)}:/outputs", "--entrypoint", "chown", plan.image),
        *("-R", owner, "/outputs"),
    ]


def remove_container(
    command: list[str], tag: str, *, patience: float = cli.COMMAND_SECONDS
) -> None:
    """End and remove a container, if there is one. Raises ContainerRuntimeError."""
    words = [*command, "rm", "--force", "--volumes", name_of(tag)]
    until = time.monotonic() + _IN_PROGRESS_SECONDS
    while True:
        answer = cli.run(words, patience=patience)
        said = answer.err.lower()
        if not answer.code or "no such container" in said:
            return
        # The name is free only when that is done.
        if "already in progress" not in said or time.monotonic() > until:
            raise ContainerRuntimeError(
                f"The container {name_of(tag)} could not be removed: {answer.said}"
            )
        time.sleep(_AGAIN_SECONDS)
