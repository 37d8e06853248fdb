"""A wall clock that a test sets for one server: a library that is loaded into it before the C library."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from tests.services.server import MissingError, install_folder, require_program

_SOURCE = Path(__file__).with_suffix(".c")
_NANOSECONDS = 10**9


def _install() -> Path:
    """Return the library, which is built once. Raises MissingError."""
    compiler = require_program("cc", "apt-get install gcc libc6-dev")
    with install_folder("clock") as folder:
        library = folder / f"{hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]}.so"
        if not library.exists():
            new = library.with_suffix(".new")
            command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(new), str(_SOURCE), "-ldl"]
            built = subprocess.run(command, capture_output=True, text=True, check=False)
            if built.returncode:
                raise MissingError(f"{_SOURCE.name} could not be built:\n{built.stderr[-2000:]}")
            new.rename(library)
    return library


class Clock:
    """The clock of the processes that have its ``environ``: it differs from this machine's as much as a test says.

    The monotonic clock is the machine's. Workers of the site local have the machine's time, too.
    """

    def __init__(self, file: Path) -> None:
        """Keep the difference in a file, where the processes see it change. Raises MissingError."""
        library = _install()
        self._file = file
        self.environ = {"LD_PRELOAD": str(library), "TESTS_CLOCK": str(file)}
        file.write_bytes(bytes(8))

    def shift(self, seconds: float) -> None:
        """Set the clock to ``seconds`` after the machine's, at once."""
        with self._file.open("r+b") as file:
            file.write(round(seconds * _NANOSECONDS).to_bytes(8, "little", signed=True))
