"""Befalls a service with random faults while clients use it, and proves from the history that it kept its promises.

    python -m tests.faults.nemesis [--seed 1] [--seconds 60] [--runs 1] [--without clock,full] [--pool]
    python -m tests.faults.nemesis --check HISTORY.json

Each run has its own seed, one after the other from ``--seed``, and its own empty service. A run that breaks a promise is printed
with the command that runs it again; its history and its servers' logs are kept. The faults of a run are a function of its seed, its
seconds and what is possible on the machine; how they fall on the requests is up to the machine.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.faults.nemesis.checker import find_violations
from tests.faults.nemesis.history import History, load, save
from tests.faults.nemesis.run import run, schedule_of, started_services
from tests.faults.nemesis.service import NemesisHarness

_SHOWN = 20
"""The violations that are printed of a run."""


def main() -> int:
    """Run with each seed; the exit status is 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1, help="the first run's")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each run, before it heals")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--pool", action="store_true", help="run containers on HTCondor")
    parser.add_argument("--without", default="", help="kinds of faults to leave out")
    parser.add_argument(
        "--histories", type=Path, default=Path(tempfile.gettempdir()), help="folder for those kept"
    )
    parser.add_argument("--check", type=Path, help="judge a kept history again")
    arguments = parser.parse_args()
    if arguments.check:
        return int(_judge(load(arguments.check)))
    broken = []
    with (
        tempfile.TemporaryDirectory(prefix="cts-nemesis-") as folder,
        started_services(Path(folder), with_pool=arguments.pool) as new_service,
    ):
        for seed in range(arguments.seed, arguments.seed + arguments.runs):
            print(f"seed {seed}:", flush=True)
            with new_service() as harness:
                history = _run(harness, seed, arguments)
                is_broken = _judge(history)
                if is_broken:
                    kept = arguments.histories / f"nemesis-{seed}"
                    kept.mkdir(exist_ok=True)
                    save(history, kept / "history.json")
                    for server in harness.servers:
                        shutil.copy(server.log, kept / f"{server.folder.name}.log")
            if is_broken:
                broken.append(seed)
                print(f"  history, and logs of the servers: {kept}")
                again = f"--seed {seed} --seconds {arguments.seconds:g}"
                again += f" --without {arguments.without}" if arguments.without else ""
                again += " --pool" if arguments.pool else ""
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


def _judge(history: History) -> bool:
    """Print what a run came to; return whether a promise was broken."""
    found = find_violations(history)
    calls = Counter(call.status for call in history.calls)
    print(
        f"  {len(history.records)} jobs, {len(history.runs)} container runs, answers:"
        f" {dict(sorted(calls.items(), key=str))}, {len(found)} broken promises"
    )
    for violation in found[:_SHOWN]:
        print(f"    {violation}")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
