"""Pulls an image by the command of a runtime."""

from __future__ import annotations

from typing import Sequence

from cts_core.worker.backoff import random_delay
from cts_core.worker.runtimes import command as cli
from cts_core.worker.runtimes.base import ContainerRuntimeError, Sleep
from cts_core.worker.runtimes.errors import is_temporary, pull_failure

PULL_TIMEOUT = 3 * 3600.0
"""The timeout for one pull."""
PULL_TRIES = 4
PULL_BACKOFF_SECONDS = 5.0
"""The least delay before the second try, up to twice as long at random; it doubles before each further try."""


def pull(command: Sequence[str], image: str, sleep: Sleep) -> None:
    """Run the command, and retry when the registry is unavailable. Raises ContainerRuntimeError, and what ``sleep`` raises."""
    tries = 0
    while True:
        result = cli.run(command, timeout=PULL_TIMEOUT, sleep=sleep)
        if not result.code:
            return
        tries += 1
        if tries == PULL_TRIES or not is_temporary(result.err):
            raise ContainerRuntimeError(pull_failure(image, result.message))
        sleep(random_delay(tries, first=PULL_BACKOFF_SECONDS))
