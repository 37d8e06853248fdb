"""Injects every fault into a service while it works through jobs, and prints what went wrong: zeros, or a bug.

    python -m tests.faults.table [--jobs 10] [--outage 6] [--servers 3] [--only WORDS]
    python -m tests.faults.table --pool [--containers 100] [--outage 6] [--only WORDS]
    python -m tests.faults.table --jaws [--only WORDS]
    python -m tests.faults.table --jaws-servers [--outage 6] [--only WORDS]

Takes about a quarter of an hour on a machine of its own, and the servers of ``tests/services``. With ``--pool`` containers run on
HTCondor: one job of so many, then as many jobs of one, for each fault. With ``--jaws`` they run at JAWS, in memory; with ``--jaws-servers`` real
servers run them there, on simulators of NERSC and JAWS.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tests.faults import jaws, jaws_servers, pool, shared_home
from tests.faults.catalog import faults
from tests.faults.jaws_servers import started_jaws_harness
from tests.faults.pool import started_pool_harness
from tests.harness.faults import FaultHarness, Outcome
from tests.services.proxy import Proxy
from tests.services.together import ServiceStack, started_stack

_COLUMNS = (
    ("jobs", "jobs"),
    ("lost", "lost"),
    ("stuck", "stuck"),
    ("undelivered", "undelivered"),
    ("twice", "run twice"),
    ("wrong", "wrong end"),
)
_WIDTH = 44
Trials = Iterator[tuple[str, Callable[[], Outcome]]]
"""Runs with one fault each, by name."""


def _row(name: str, outcome: Outcome) -> str:
    return name.ljust(_WIDTH) + "".join(
        f"{getattr(outcome, attribute):>{len(title) + 3}}" for attribute, title in _COLUMNS
    )


def main() -> int:
    """Print the table; return 1 if any count of a failure is not zero, else 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=10, help="jobs for each fault")
    parser.add_argument("--outage", type=float, default=6.0, help="seconds that an outage lasts")
    parser.add_argument("--servers", type=int, default=3, help="servers of the service")
    parser.add_argument("--only", default="", help="faults with this in their name")
    parser.add_argument("--pool", action="store_true", help="run containers on HTCondor")
    parser.add_argument(
        "--containers", type=int, default=100, help="containers of each fault there"
    )
    parser.add_argument("--jaws", action="store_true", help="run containers at JAWS, in memory")
    parser.add_argument("--jaws-servers", action="store_true", help="the same, by real servers")
    arguments = parser.parse_args()
    if arguments.jaws:
        logging.disable()  # hours of outages are told within seconds
        return _print_table(jaws.rows(), arguments.only)
    kafka_proxy = Proxy(0)
    with tempfile.TemporaryDirectory(prefix="cts-faults-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as a user of its own
        with started_stack(Path(folder), kafka_advertises=kafka_proxy.port) as services:
            trials = _local_trials
            if arguments.pool:
                trials = _pool_trials
            elif arguments.jaws_servers:
                trials = _jaws_trials
            return _print_table(trials(services, kafka_proxy, arguments), arguments.only)


def _print_table(trials: Trials, only: str) -> int:
    total = Outcome()
    print("".ljust(_WIDTH) + "".join(f"   {title}" for _, title in _COLUMNS))
    for name, run in trials:
        if only not in name:
            continue
        start = time.monotonic()
        outcome = run()
        total.add(outcome)
        print(_row(name, outcome), f"  {time.monotonic() - start:.0f} s", flush=True)
        for note in outcome.notes:
            print(f"    {note}", file=sys.stderr, flush=True)
    print(_row("together", total))
    return int(not total.is_clean)


def _local_trials(
    services: ServiceStack, kafka_proxy: Proxy, arguments: argparse.Namespace
) -> Trials:
    with FaultHarness(services, kafka=kafka_proxy, servers=arguments.servers) as harness:
        for name, fault in faults(arguments.outage):
            yield name, partial(harness.run_with, fault, arguments.jobs, arguments.outage)
    yield "servers killed on machines that share a home", lambda: shared_home.run(arguments.jobs)


def _pool_trials(
    services: ServiceStack, kafka_proxy: Proxy, arguments: argparse.Namespace
) -> Trials:
    with started_pool_harness(services, kafka_proxy) as harness:
        for jobs, containers in ((1, arguments.containers), (arguments.containers, 1)):
            harness.set_containers(containers)
            for name, fault in pool.faults(arguments.outage):
                title = f"{jobs} x {containers}: {name}"
                yield title, partial(harness.run_with, fault, jobs, min(arguments.outage, jobs))


def _jaws_trials(
    services: ServiceStack, kafka_proxy: Proxy, arguments: argparse.Namespace
) -> Trials:
    with started_jaws_harness(services, kafka_proxy) as harness:
        for name, fault in jaws_servers.faults(arguments.outage):
            yield name, partial(harness.run_with, fault, arguments.jobs, arguments.outage)


if __name__ == "__main__":
    sys.exit(main())
