"""The command lines of apptainer."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from cts_core.worker.container_folder import ContainerFolder
from cts_core.worker.plan import WorkerPlan
from cts_core.worker.runtimes import apptainer
from tests.harness.worker import IMAGE

FOLDER = ContainerFolder("/home/job/3")


def test_apptainer(plan: WorkerPlan) -> None:
    plan = replace(
        plan, container_runtime="apptainer", runtime_command=["apptainer"], network=False
    )
    command = apptainer.exec_command(plan, FOLDER)
    file = f"/home/images/{'ab' * 32}.sif"
    assert command[:3] == ["apptainer", "--silent", "exec"]
    assert {"--containall", "--no-home", "--no-eval", "--no-privs"} <= set(command)
    assert ("--network", "none") in pairwise(command)
    mounts = [value for option, value in pairwise(command) if option == "--mount"]
    assert mounts == [
        "type=bind,source=/home/job/3/in,destination=/input_files,ro",
        "type=bind,source=/home/job/3/out,destination=/output_files",
        "type=bind,source=/home/refdata/r1,destination=/ref,ro",
    ]
    overlapping = apptainer.exec_command(replace(plan, refdata_mount="/output_files"), FOLDER)
    assert "type=bind,source=/home/refdata/r1,destination=/output_files,ro" in overlapping
    assert command[command.index(file) :] == [file, "/bin/tool", "run", "--in", "/input_files/a,b"]
    pull = apptainer.pull_command(replace(plan, plain_http=True), "x.sif")
    assert pull == [
        *("apptainer", "pull", "--force", "--disable-cache", "--no-https"),
        *("x.sif", f"docker://{IMAGE}"),
    ]
