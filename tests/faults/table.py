"""Harms a service in every way while it works through jobs, and prints what went wrong: noughts, or a bug.

    python -m tests.faults.table [--jobs 10] [--outage 6] [--servers 3] [--only WORDS]
    python -m tests.faults.table --pool [--containers 100] [--outage 6] [--only WORDS]

Takes about a quarter of an hour on a machine of its own, and the servers of ``tests/services``. With ``--pool`` containers run on
HTCondor: one job of so many, then as many jobs of one, for each harm.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tests.faults import pool
from tests.faults.field import Field, Outcome
from tests.faults.harms import harms
from tests.faults.pool import started_pool_field
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
"""What is tried, by name."""


def _row(name: str, outcome: Outcome) -> str:
    return name.ljust(_WIDTH) + "".join(
        f"{getattr(outcome, field):>{len(title) + 3}}" for field, title in _COLUMNS
    )


def main() -> int:
    """The status is 1 when anything is not nought."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=10, help="jobs for each harm")
    parser.add_argument("--outage", type=float, default=6.0, help="seconds that an outage lasts")
    parser.add_argument("--servers", type=int, default=3, help="servers of the service")
    parser.add_argument("--only", default="", help="harms with this in their name")
    parser.add_argument("--pool", action="store_true", help="run containers on HTCondor")
    parser.add_argument("--containers", type=int, default=100, help="containers of each harm there")
    asked = parser.parse_args()
    total = Outcome()
    way = Proxy(0)
    with tempfile.TemporaryDirectory(prefix="cts-faults-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as a user of its own
        with started_stack(Path(folder), kafka_advertises=way.port) as services:
            print("".ljust(_WIDTH) + "".join(f"   {title}" for _, title in _COLUMNS))
            trials = _at_pool if asked.pool else _here
            for name, endure in trials(services, way, asked):
                if asked.only not in name:
                    continue
                began = time.monotonic()
                outcome = endure()
                total.add(outcome)
                print(_row(name, outcome), f"  {time.monotonic() - began:.0f} s", flush=True)
                for note in outcome.notes:
                    print(f"    {note}", file=sys.stderr, flush=True)
            print(_row("together", total))
    return int(not total.is_clean)


def _here(services: ServiceStack, way: Proxy, asked: argparse.Namespace) -> Trials:
    with Field(services, kafka=way, servers=asked.servers) as field:
        for name, harm in harms(asked.outage):
            yield name, partial(field.endure, harm, asked.jobs, asked.outage)


def _at_pool(services: ServiceStack, way: Proxy, asked: argparse.Namespace) -> Trials:
    with started_pool_field(services, way) as field:
        for jobs, containers in ((1, asked.containers), (asked.containers, 1)):
            field.set_containers(containers)
            for name, harm in pool.harms(asked.outage):
                title = f"{jobs} x {containers}: {name}"
                yield title, partial(field.endure, harm, jobs, min(asked.outage, jobs))


if __name__ == "__main__":
    sys.exit(main())
