"""Befalls a service with random faults while clients use it, and proves from the history that it kept its promises.

    python -m tests.faults.nemesis [--seed 1] [--seconds 60] [--runs 1] [--without clock,full]
    python -m tests.faults.nemesis --check HISTORY.json

Each run has its own seed, one after the other from ``--seed``, and its own empty service. A run that breaks a promise is printed
with the command that runs it again, and its history is kept. The faults of a run are a function of its seed, its seconds and what
is possible on the machine; how they fall on the requests is up to the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.faults.nemesis.checker import find_violations
from tests.faults.nemesis.history import History, load, save
from tests.faults.nemesis.run import run, schedule_of
from tests.faults.nemesis.service import NemesisHarness
from tests.harness.disk import mounted_disk
from tests.services.proxy import Proxy
from tests.services.server import MissingError, free_port
from tests.services.together import started_stack

S3_SIZE = "512m"
"""The disk of the S3 server."""
_SHOWN = 20
"""The violations that are printed of a run."""


def main() -> int:
    """Run with each seed; the exit status is 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1, help="the first run's")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each run, before it heals")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--without", default="", help="kinds of faults to leave out")
    parser.add_argument(
        "--histories", type=Path, default=Path(tempfile.gettempdir()), help="folder for those kept"
    )
    parser.add_argument("--check", type=Path, help="judge a kept history again")
    arguments = parser.parse_args()
    if arguments.check:
        return _judge(load(arguments.check))
    broken = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cts-nemesis-")))
        folder.chmod(0o755)  # PostgreSQL runs as a user of its own
        s3_disk: Path | None = None
        try:
            s3_disk = stack.enter_context(mounted_disk(folder / "minio", S3_SIZE))
        except MissingError as e:
            print(f"not possible here: S3 full: {e}")
        kafka_port = free_port()
        services = stack.enter_context(started_stack(folder, kafka_advertises=kafka_port))
        for seed in range(arguments.seed, arguments.seed + arguments.runs):
            print(f"seed {seed}:", flush=True)
            services.s3.empty()
            kafka = Proxy(0, kafka_port)
            with NemesisHarness(services, kafka=kafka, s3_disk=s3_disk) as harness:
                history = _run(harness, seed, arguments)
            if _judge(history):
                broken.append(seed)
                file = arguments.histories / f"nemesis-{seed}.json"
                save(history, file)
                print(f"  history: {file}")
                without = f" --without {arguments.without}" if arguments.without else ""
                again = f"--seed {seed} --seconds {arguments.seconds:g}{without}"
                print(f"  again: python -m tests.faults.nemesis {again}", flush=True)
    print(f"{arguments.runs} runs, promises broken in {broken or 'none'}")
    return int(bool(broken))


def _run(harness: NemesisHarness, seed: int, arguments: argparse.Namespace) -> History:
    for reason in harness.missing:
        print(f"  not possible here: {reason}")
    schedule = schedule_of(harness, seed, arguments.seconds, arguments.without.split(","))
    return run(
        harness,
        schedule,
        seed,
        arguments.seconds,
        lambda line: print(f"  {line}", flush=True),
    )


def _judge(history: History) -> int:
    found = find_violations(history)
    calls = Counter(call.status for call in history.calls)
    print(
        f"  {len(history.records)} jobs, {len(history.runs)} container runs, answers:"
        f" {dict(sorted(calls.items(), key=str))}, {len(found)} broken promises"
    )
    for violation in found[:_SHOWN]:
        print(f"    {violation}")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
