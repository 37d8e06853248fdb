"""The part of the record store that knows the workers of containers elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from cts_core.model.worker import Claim, ContainerId


class WorkerRecords(Protocol):
    """Tokens are known by their hashes alone."""

    async def add_worker_tokens(
        self, job_id: str, numbers: Mapping[str, int], *, now: datetime, until: datetime
    ) -> None:
        """Let tokens, given by their hashes, stand for containers of a job, ``until`` then or the job's end.

        Tokens that it had before stay good: a start may be doubled, and either may be the one that runs.
        """

    async def find_worker_token(self, token_hash: str, *, now: datetime) -> ContainerId | None:
        """The container that a token stands for; None for one that is unknown, too old, or of a job that has ended."""

    async def claim_container(self, job_id: str, number: int, claim: Claim) -> bool:
        """Give a container to a worker, if ``claim`` may follow what it was given for before; False otherwise.

        Raises NoSuchContainerError.
        """

    async def claims(self, job_id: str) -> dict[int, Claim]:
        """By number, for what each container of a job was given, as far as any was."""
