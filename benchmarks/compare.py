"""Runs benchmarks on two checkouts by turns, and prints how the second compares: ``python -m benchmarks.compare A B NAME ...``.

A and B are folders of checkouts, such as git worktrees. Each figure's ratio of B to A is taken within a round, in which both ran
beside the same load; the median and the range of all rounds are printed. A figure whose ratio is on one side of 1 in every round
is marked. Both run on this interpreter and its packages.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import scripts

ROUNDS = 5

Figures = Mapping[tuple[str, str], float]


def figures(results: Sequence[Mapping[str, Any]]) -> Figures:
    """Return the figures of a run by what they are of, and their names."""
    return {
        (result["what"], name): value
        for result in results
        for name, value in result["figures"].items()
    }


def ratios(rounds: Sequence[tuple[Figures, Figures]]) -> dict[tuple[str, str], list[float]]:
    """Return the ratios of B to A, a round each, of the figures that both have and that are not 0."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for a, b in rounds:
        for key in a:
            if key in b and a[key]:
                found[key].append(b[key] / a[key])
    return dict(found)


def lines(found: Mapping[tuple[str, str], Sequence[float]]) -> list[str]:
    """Return a line for each figure, marked where every round was on the same side of 1."""
    return [
        f"{'*' if min(of) > 1 or max(of) < 1 else ' '} {statistics.median(of):6.2f} ({min(of):.2f} to {max(of):.2f})  "
        f"{what}: {name}"
        for (what, name), of in found.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("a", type=Path, help="a checkout, such as main's")
    parser.add_argument("b", type=Path, help="another, such as the change's")
    parser.add_argument("names", nargs="+", metavar="NAME", choices=scripts.names())
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--tiny", action="store_true", help="whether it works, in seconds")
    options = parser.parse_args()
    for name in options.names:
        rounds = []
        for number in range(options.rounds):
            turn = 1 if number % 2 == 0 else -1  # each comes first as often as the other
            a, b = [
                figures(scripts.run(name, checkout=checkout.resolve(), tiny=options.tiny))
                for checkout in (options.a, options.b)[::turn]
            ][::turn]
            rounds.append((a, b))
        print(f"bench_{name}.py, B / A in {len(rounds)} rounds; * is the same side of 1 in each:")
        print("\n".join(lines(ratios(rounds))), flush=True)


if __name__ == "__main__":
    main()
