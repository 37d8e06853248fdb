"""The command lines of docker and podman.

Every capability is dropped, new privileges are disallowed, the inputs and reference data are mounted read-only. The user is
the image's; the file system is writable and discarded. A container's name is derived from its tag, so that another process
can find and remove it.
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
from cts_core.worker.runtimes.base import ContainerRuntimeError, mounts, runtime_path
from cts_core.worker.runtimes.processes import TAG

LABEL = "cts.container"
"""The label that holds the container's tag."""
MAX_PROCESSES = 32_768
"""The most processes and threads of one container."""
PODMAN_GRACE_SECONDS = 10.0
"""Seconds after its limit at which podman itself ends a container, in case the worker was killed."""
PID_FILE = "container.pid"
"""The file in the container's folder to which podman writes the id of its first process."""
_REMOVAL_TIMEOUT, _REMOVAL_POLL_SECONDS = 10.0, 0.2
"""The timeout for a removal that another process has begun, and the interval between checks of it."""
_SELINUX = "/sys/fs/selinux/enforce"


def container_name(tag: str) -> str:
    """Return the runtime's name for the container of this tag."""
    return f"cts-{re.sub('[^A-Za-z0-9_.-]', '-', tag)}"


def create_command(
    plan: WorkerPlan, folder: ContainerFolder, labels: Mapping[str, str]
) -> list[str]:
    """Return the command that creates the container. It depends on whether this machine uses SELinux labels.

    ``labels``: further ones beside the tag.
    """
    is_labeled = os.path.exists(_SELINUX)
    name, *more = plan.entrypoint
    # With an entrypoint given, the image's CMD is ignored, which could otherwise be taken for arguments.
    command = [
        *(*plan.runtime_command, "create", "--pull", "never", "--name", container_name(plan.tag)),
        *("--log-driver", "none", "--stop-timeout", "0", "--no-healthcheck"),
        *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
        # The runtime refuses more cpus than the machine has, which a site may allow.
        *("--cpus", str(min(plan.cpus, os.cpu_count() or 1)), "--pids-limit", str(MAX_PROCESSES)),
        # The same limit with swap as without: no swap.
        *("--memory", str(plan.memory), "--memory-swap", str(plan.memory)),
        *(() if plan.network else ("--network", "none")),
    ]
    for label, value in {LABEL: plan.tag, **labels}.items():
        command += ["--label", f"{label}={value}"]
    if plan.container_runtime == "podman":
        # Podman would pass on our proxies, whose URLs may hold passwords.
        command += ["--http-proxy=false", "--pidfile", folder.file(PID_FILE)]
        # Podman then ends the container even if the worker is killed.
        command += [
            "--timeout",
            str(math.ceil(plan.runtime + plan.stop_grace + PODMAN_GRACE_SECONDS)),
        ]
    for mount in mounts(plan, folder):
        options = ["rw" if mount.is_writable else "ro"]
        if is_labeled:
            options.append("z" if mount.is_shared else "Z")
        command += ["--volume", f"{mount.source}:{mount.target}:{','.join(options)}"]
    for variable, value in {**plan.environment, TAG: plan.tag}.items():
        command += ["--env", f"{variable}={value}"]
    return [
        *(*command, *plan.runtime_arguments, "--entrypoint", name, plan.image),
        *(*more, *plan.arguments),
    ]


def pull_command(plan: WorkerPlan) -> list[str]:
    """Return the command that pulls the image. Docker knows by its own settings which registries use http."""
    insecure = (
        ["--tls-verify=false"] if plan.plain_http and plan.container_runtime == "podman" else []
    )
    return [*plan.runtime_command, "pull", "--quiet", *insecure, plan.image]


def reclaim_command(plan: WorkerPlan, folder: ContainerFolder, *, is_rootless: bool) -> list[str]:
    """Return the command that gives the outputs, whoever owns them, to the worker's user.

    Docker can do it only within a container: the image must contain ``chown``.
    """
    outputs = folder.file(OUTPUTS)
    if plan.container_runtime == "podman":
        return [*plan.runtime_command, "unshare", "chown", "-R", "0:0", outputs]
    owner = "0:0" if is_rootless else f"{os.geteuid()}:{os.getegid()}"
    return [
        *(*plan.runtime_command, "run", "--rm", "--pull", "never", "--network", "none"),
        *("--security-opt", "no-new-privileges", "--cap-drop", "ALL"),
        *("--cap-add", "CHOWN", "--cap-add", "DAC_OVERRIDE", "--user", "0:0"),
        *(
            "--volume",
            f"{runtime_path(plan, outputs)}:/outputs",
            "--entrypoint",
            "chown",
            plan.image,
        ),
        *("-R", owner, "/outputs"),
    ]


def remove_container(
    command: list[str], container: str, *, timeout: float = cli.COMMAND_TIMEOUT
) -> None:
    """Kill and remove the container of a name or an id, if it exists. Raises ContainerRuntimeError."""
    arguments = [*command, "rm", "--force", "--volumes", container]
    deadline = time.monotonic() + _REMOVAL_TIMEOUT
    while True:
        result = cli.run(arguments, timeout=timeout)
        message = result.err.lower()
        if not result.code or "no such container" in message:
            return
        # The name is free only after that removal.
        if "already in progress" not in message or time.monotonic() > deadline:
            raise ContainerRuntimeError(
                f"The container {container} could not be removed: {result.message}"
            )
        time.sleep(_REMOVAL_POLL_SECONDS)
