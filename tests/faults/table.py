"""Harms a service in every way while it works through jobs, and prints what went wrong: noughts, or a bug.

    python -m tests.faults.table [--jobs 10] [--outage 6] [--servers 3] [--only WORDS]

Takes about a quarter of an hour on a machine of its own, and the servers of ``tests/services``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.field import Field, Outcome
from tests.faults.harms import harms
from tests.services.proxy import Proxy
from tests.services.together import all_started

_COLUMNS = (
    ("jobs", "jobs"),
    ("lost", "lost"),
    ("stuck", "stuck"),
    ("undelivered", "undelivered"),
    ("twice", "run twice"),
    ("wrong", "wrong end"),
)
_WIDTH = 44


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
    asked = parser.parse_args()
    total = Outcome()
    way = Proxy(0)
    with tempfile.TemporaryDirectory(prefix="cts-faults-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as a user of its own
        with (
            all_started(Path(folder), kafka_advertises=way.port) as together,
            Field(together, kafka=way, servers=asked.servers) as field,
        ):
            print("".ljust(_WIDTH) + "".join(f"   {title}" for _, title in _COLUMNS))
            for name, harm in harms(asked.outage):
                if asked.only not in name:
                    continue
                began = time.monotonic()
                outcome = field.endure(harm, asked.jobs, asked.outage)
                total.add(outcome)
                print(_row(name, outcome), f"  {time.monotonic() - began:.0f} s", flush=True)
                for note in outcome.notes:
                    print(f"    {note}", file=sys.stderr, flush=True)
            print(_row("together", total))
    return int(not total.is_clean)


if __name__ == "__main__":
    sys.exit(main())
