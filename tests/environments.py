"""Run the fast tests on every Python that this machine has, and with pre-releases of Jupyter.

::

    python -m tests.environments [NAME]

``NAME`` chooses the environments whose name holds it, such as 3.13. They stay in ``.cache/environments``.
"""

from __future__ import annotations

import subprocess
import sys

from tests.harness.environments import find_pythons, prereleases
from tests.harness.paths import ROOT

FAST_TESTS = ["-m", "pytest", "-m", "not slow", "-n", "auto", "--dist", "loadfile", "-q"]


def main(wanted: str = "") -> int:
    """Run them and print how each ended. Return the exit code of a program."""
    ended = {}
    for environment in [*find_pythons(), prereleases()]:
        if wanted not in environment.name:
            continue
        folder = ROOT / ".cache" / "environments" / environment.name.replace(" ", "-")
        python = environment.create(folder, "dev")
        print(f"{environment.name}:", flush=True)
        ended[environment.name] = subprocess.run(
            [python, *FAST_TESTS], cwd=ROOT, check=False
        ).returncode
    for name, code in ended.items():
        print(f"{name}: {'passed' if code == 0 else f'exit code {code}'}")
    return max(ended.values(), default=0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
