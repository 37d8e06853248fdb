"""Ends what runs beside the rest."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

log = logging.getLogger(__name__)


async def end(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel these tasks, and wait until all have ended; None is one that was never begun."""
    begun = [task for task in tasks if task is not None]
    for task in begun:
        task.cancel()
    for task, result in zip(
        begun, await asyncio.gather(*begun, return_exceptions=True), strict=True
    ):
        if isinstance(result, Exception):
            log.error("Task %s had failed", task.get_name(), exc_info=result)
