"""Benchmark of start times: ``cts --help``, a kernel's ``%load_ext``, and a server until it answers.

Each is timed as a whole process, alternating with the same without CTS. ``python benchmarks/bench_start.py --against FOLDER``
compares with another checkout instead, such as the one before a change; both run on this interpreter and its packages.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from harness import report as keep
from harness import run, size

ROOT = Path(__file__).parents[1]
RUNS, FIRST = size((7, 1), (1, 0))
"""Pairs that count, and pairs before them that fill caches."""
START_SECONDS = 120
_IPYTHON = "from IPython import start_ipython; start_ipython(['--quick', '-c', {!r}])"
_SERVER = "from jupyter_server.serverapp import main; main()"


def commands(scripts: str) -> dict[str, tuple[str, str]]:
    """Return, by name, a program that starts CTS, and one that starts the same without it."""
    return {
        "cts --help": (
            f"import sys; sys.argv = ['cts', '--help']; from {scripts} import main; main()",
            "import argparse, pydantic_settings",
        ),
        "%load_ext": (_IPYTHON.format("%load_ext cts_jupyter"), _IPYTHON.format("1")),
    }


def process_seconds(program: str, checkout: Path) -> float:
    """Return the wall seconds of a program that runs to its end."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(checkout)},
        cwd="/",  # else the folder of the call would come before the checkout
        check=True,
        timeout=START_SECONDS,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


def server_seconds(checkout: Path, *, with_cts: bool) -> float:
    """Return the seconds until a Jupyter server answers, with CTS until CTS says that it is ready."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        sock.close()
        env = {**os.environ, "PYTHONPATH": str(checkout), "CTS_HOME": f"{folder}/home"}
        env |= {f"JUPYTER_{name}_DIR": f"{folder}/{name}" for name in ("CONFIG", "DATA", "RUNTIME")}
        path = "cts/whoami" if with_cts else "api/status"
        command = [
            *(sys.executable, "-c", _SERVER, "--allow-root", "--no-browser", f"--port={port}"),
            f"--ServerApp.jpserver_extensions=cts_jupyter={with_cts}",
            "--IdentityProvider.token=t",
        ]
        start = time.perf_counter()
        server = subprocess.Popen(
            command, env=env, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            while time.perf_counter() - start < START_SECONDS:
                try:
                    with urllib.request.urlopen(
                        f"http://127.0.0.1:{port}/{path}?token=t", timeout=1
                    ):
                        return time.perf_counter() - start
                except OSError:
                    time.sleep(0.01)
            raise SystemExit(f"The server of {checkout} did not start")
        finally:
            server.terminate()
            server.wait()


def report(name: str, ours: list[float], others: list[float], other: str) -> None:
    ratios = [one / two for one, two in zip(ours, others, strict=True)]
    keep(
        name,
        f"{statistics.median(ours):.2f} s, {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) times the "
        f"{statistics.median(others):.2f} s {other}",
        time_s=statistics.median(ours),
        more_s=statistics.median(ours) - statistics.median(others),
        ratio=statistics.median(ratios),
    )


def module_of_cts(checkout: Path) -> str:
    """Return the module of the command ``cts`` as this checkout's pyproject names it."""
    lines = (checkout / "pyproject.toml").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("cts = "))
    return line.split('"')[1].partition(":")[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, help="another checkout to compare with")
    against = parser.parse_args().against
    other = "before" if against else "without"
    print(f"Median of {RUNS} pairs; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cpus")
    for name, (ours, without) in commands(module_of_cts(ROOT)).items():
        program = commands(module_of_cts(against))[name][0] if against else without
        pairs = [
            (process_seconds(ours, ROOT), process_seconds(program, against or ROOT))
            for _ in range(RUNS + FIRST)
        ][FIRST:]
        report(name, [one for one, _ in pairs], [two for _, two in pairs], other)
    pairs = [
        (
            server_seconds(ROOT, with_cts=True),
            server_seconds(against or ROOT, with_cts=bool(against)),
        )
        for _ in range(RUNS + FIRST)
    ][FIRST:]
    report("server", [one for one, _ in pairs], [two for _, two in pairs], other)


if __name__ == "__main__":
    run(main)
