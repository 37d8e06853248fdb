"""Machines that share one home: their servers have the same process ids, and one folder for their files for kernels.

A machine here is a PID namespace, in which this module runs as a program. It starts a server, has kernels submit jobs to the
server that they find, kills the server, and starts another one, while the other machines do the same.

Usage: ``python -m tests.faults.shared_home NAME FOLDER COUNT``. Prints the end of each job as a line of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from cts_core.states import TERMINAL
from cts_jupyter.client import CTSClient
from cts_jupyter.discovery import PARENT_VARIABLE, find_connection
from tests.harness.faults import TIMEOUT_SECONDS, Outcome
from tests.harness.paths import COPY_INPUTS
from tests.services.server import START_SECONDS, MissingError, free_port

MACHINES = ("one", "two")
_NAMESPACE = (
    "unshare",
    "--user",
    "--map-root-user",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
)
_SERVERS = 2
"""The servers of each machine, one after the other."""
_POLL_SECONDS = 0.1
_SUBMISSION = {
    "cluster": "local",
    "image": "host/tool",
    "params": {
        "args": [{"type": "input_files", "input_files_format": "space_separated_list"}],
        "environment": {"OUT": "/output_files"},
    },
    "input_files": ["data/in"],
    "output_dir": "data/out",
}


@dataclass
class JobEnd:
    """The state in which a job ended, and whose job the server says it is."""

    state: str
    owner: str


def run(count: int) -> Outcome:
    """Return what became of ``count`` jobs on machines that share a home. Raises MissingError."""
    probe = subprocess.run([*_NAMESPACE, "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        raise MissingError(f"No PID namespace can be made here: {probe.stderr.strip()}")
    with tempfile.TemporaryDirectory(prefix="cts-home-") as folder:
        return _run_in(Path(folder), count // len(MACHINES))


def _run_in(folder: Path, each: int) -> Outcome:
    environ = {
        **os.environ,
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "CTS_PRESET": "embedded",
    }
    machines = {
        name: subprocess.Popen(
            [*_NAMESPACE, sys.executable, "-m", "tests.faults.shared_home", name, folder, str(each)],
            env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for name in MACHINES
    }  # fmt: skip
    outcome = Outcome(jobs=each * len(machines))
    for name, machine in machines.items():
        lines, errors = machine.communicate(timeout=TIMEOUT_SECONDS)
        ends = [JobEnd(**json.loads(line)) for line in lines.splitlines()]
        outcome.lost += each - len(ends)
        outcome.stuck += sum(end.state not in TERMINAL for end in ends)
        wrong = [f"on machine {name}: {end}" for end in ends if end != JobEnd("complete", name)]
        outcome.wrong += len(wrong)
        outcome.notes += wrong
        if machine.returncode:
            outcome.notes.append(f"machine {name}: {errors[-1000:]}")
    return outcome


def _main(name: str, folder: Path, count: int) -> None:
    for number in range(_SERVERS):
        with _server(name, folder):
            _meet(folder / f"servers-{number}", name)
            if number == 0:
                _prepare(folder / "input")
            for _ in range(number, count, _SERVERS):
                print(json.dumps(asdict(_submit())), flush=True)


@contextmanager
def _server(name: str, folder: Path) -> Iterator[None]:
    """Run a server of this machine, with records of its own and its name as the owner's; kill it at the end."""
    command = [sys.executable, "-m", "jupyter", "cts", f"--port={free_port()}", "--allow-root"]
    own = [f"--home={folder / name}", f"--owner={name}"]
    with subprocess.Popen([*command, *own], stderr=subprocess.PIPE, text=True) as server:
        os.environ[PARENT_VARIABLE] = str(server.pid)
        try:
            assert server.stderr
            while "CTS serves" not in (line := server.stderr.readline()):
                sys.stderr.write(line)
                assert line, "the server ended"
            yield
        finally:
            server.kill()


def _meet(folder: Path, name: str) -> None:
    """Wait until every machine has come here."""
    folder.mkdir(exist_ok=True)
    (folder / name).touch()
    deadline = time.monotonic() + START_SECONDS
    while len(list(folder.iterdir())) < len(MACHINES):
        assert time.monotonic() < deadline, "another machine has ended"
        time.sleep(_POLL_SECONDS)


def _prepare(file: Path) -> None:
    file.write_text("input")
    with CTSClient.of(find_connection()) as client:
        client.register_image("host/tool", executable=str(COPY_INPUTS))
        client.upload(file, "data/in")


def _submit() -> JobEnd:
    """Have a kernel submit a job, and another one wait for its end."""
    with CTSClient.of(find_connection()) as client:
        job_id = client.submit(_SUBMISSION)
    with CTSClient.of(find_connection()) as client:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while client.status(job_id).state not in TERMINAL and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        job = client.job(job_id)
        return JobEnd(job.state, job.user)


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
