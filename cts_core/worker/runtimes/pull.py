"""Has an image fetched by the command of a runtime."""

from __future__ import annotations

import random
from typing import Sequence

from cts_core.worker.runtimes import command as cli
from cts_core.worker.runtimes.base import ContainerRuntimeError, Pause
from cts_core.worker.runtimes.errors import is_temporary, pull_failure

PULL_SECONDS = 3 * 3600.0
"""What fetching an image may take."""
PULL_TRIES = 4
PULL_BACKOFF_SECONDS = 5.0
"""Before the second try, with as much again by chance; twice as long before each further one."""


def pull(command: Sequence[str], image: str, pause: Pause) -> None:
    """Run the command, again when the registry is away. Raises ContainerRuntimeError, and what ``pause`` does."""
    tries = 0
    while True:
        answer = cli.run(command, patience=PULL_SECONDS, pause=pause)
        if not answer.code:
            return
        tries += 1
        if tries == PULL_TRIES or not is_temporary(answer.err):
            raise ContainerRuntimeError(pull_failure(image, answer.said))
        wait = PULL_BACKOFF_SECONDS * 2 ** (tries - 1)
        pause(wait * (1 + random.random()))  # noqa: S311 - so that not all try again at once
