"""The record store that a command works on, by the settings of this process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cts_core.config import host
from cts_core.config.load import load_settings
from cts_core.model.record import AuditEntry, JobQuery
from cts_jupyter.cli.output import CommandError
from cts_jupyter.formatting import SHORT_ID_LENGTH

if TYPE_CHECKING:
    from cts_core.config.settings import Settings
    from cts_core.records.store import RecordStore

_ID_LENGTH = 36
"""The length of a whole id."""


@dataclass(frozen=True)
class Stores:
    """An open record store, and the settings that name it."""

    settings: Settings
    store: RecordStore

    async def find_job_id(self, reference: str) -> str:
        """Return the full id of the job whose id is ``reference`` or begins so. Raises CommandError if it may be several."""
        if not SHORT_ID_LENGTH <= len(reference) < _ID_LENGTH:
            return reference
        page = await self.store.list_jobs(JobQuery(text=reference))
        matching = [job.id for job in page.jobs if job.id.startswith(reference)]
        if len(matching) > 1 or page.next is not None:
            raise CommandError(
                f"More than one job may be meant by {reference!r}: {', '.join(matching[:5])}; write more of the id"
            )
        # The id of none is refused as that of any job that is not there.
        return matching[0] if matching else reference

    async def record_audit(self, job_id: str, action: str, reason: str) -> None:
        """Add an entry to a job's audit: this user, what they do, and why."""
        entry = AuditEntry(
            time=await self.store.now(), actor=actor_name(), action=action, reason=reason
        )
        await self.store.add_audit(job_id, entry)


def actor_name() -> str:
    """Return the name of the command's user for the audit."""
    return f"{host.login()} (cts)"


@contextlib.asynccontextmanager
async def open_stores() -> AsyncIterator[Stores]:
    """Open the record store. Raises ConfigError and UnavailableError."""
    from cts_core.engine import adapters  # noqa: PLC0415 - slow to import, and not every command needs it

    settings = load_settings()
    store = adapters.record_store(settings)
    await store.open()
    try:
        yield Stores(settings, store)
    finally:
        await store.close()
