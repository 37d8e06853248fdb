"""The user's token for the upstream: from the environment or a file, whichever is newer."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from cts_core.errors import AuthenticationError
from cts_jupyter.discovery import TOKEN_VARIABLE

_TOKEN = re.compile(r"[!-~]{1,4096}")
_MAX_FILE = 8192
"""Bytes of the file that are read."""


class UserToken:
    """Chooses the token to send, and another one if it was refused; never logs a token."""

    def __init__(self, file: Path, environ: Mapping[str, str] | None = None) -> None:
        self._file = file.expanduser()
        self._environ = os.environ if environ is None else environ
        # The environment is as old as the process; a file that was written later has a newer token.
        self._started = time.time()
        self._refused: frozenset[str] = frozenset()

    def candidates(self) -> Sequence[str]:
        """Return the available tokens, newest first. Reads a file, so it may block."""
        in_environ = self._environ.get(TOKEN_VARIABLE, "").strip()
        written, in_file = self._read()
        tokens = [in_file, in_environ] if written > self._started else [in_environ, in_file]
        return [token for token in dict.fromkeys(tokens) if _TOKEN.fullmatch(token)]

    def _read(self) -> tuple[float, str]:
        try:
            with self._file.open("rb") as file:
                return os.fstat(file.fileno()).st_mtime, file.read(_MAX_FILE).decode().strip()
        except (OSError, ValueError):
            return 0, ""

    def choose(self, candidates: Sequence[str]) -> str:
        """Return the token to send. Raises AuthenticationError, which says where to put one."""
        if not candidates:
            raise AuthenticationError(
                f"This Jupyter server has no KBase token to ask the CTS service with: write one to {self._file}, or "
                f"start the server with one in {TOKEN_VARIABLE}"
            )
        self._refused &= frozenset(candidates)
        return next((token for token in candidates if token not in self._refused), candidates[0])

    def refuse(self, token: str) -> AuthenticationError:
        """Mark a token as refused by the upstream, and return the error for the user if there is no other."""
        self._refused |= {token}
        return AuthenticationError(
            "The CTS service does not accept your KBase token, which may have expired: log in to KBase again, "
            f"so that a new one comes into {self._file}, or start your Jupyter server anew"
        )
