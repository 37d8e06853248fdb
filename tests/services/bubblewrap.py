"""Bubblewrap, which isolates the programs of a service for several users."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from cts_core.worker.runtimes.sandbox import PROGRAM
from tests.services.server import or_skip, require_program

HINT = "apt-get install bubblewrap"
_OPENING = """#!/bin/sh
opened=
for word; do
  shift
  if [ "$word" = -- ] && [ -z "$opened" ]; then opened=1; set -- "$@" --bind {folder} {folder}; fi
  set -- "$@" "$word"
done
exec {real} "$@"
"""


def install() -> None:
    """Do nothing: it is a program of the system."""


def opening(folder: Path) -> str:
    """Return a PATH on which bubblewrap lets programs write into this folder, too, where a test counts their starts."""
    real = require_program(PROGRAM, HINT)
    program = folder / "bin" / PROGRAM
    if not program.exists():
        program.parent.mkdir()
        program.write_text(_OPENING.format(real=shlex.quote(real), folder=shlex.quote(str(folder))))
        program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


@pytest.fixture(scope="session")
def bubblewrap() -> None:
    """Require bubblewrap."""
    with or_skip():
        require_program(PROGRAM, HINT)
