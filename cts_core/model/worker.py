"""What the records know of workers that run elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

_INT32 = 1 << 31


@dataclass(frozen=True)
class ContainerId:
    """One container of one job."""

    job_id: str
    number: int


class Claim(BaseModel):
    """A worker asks for its container."""

    model_config = ConfigDict(frozen=True)

    process: Annotated[str, Field(min_length=1, max_length=100)]
    """What the site calls the process that runs the worker: two starts of one job differ in it."""
    run: Annotated[int, Field(ge=0, lt=_INT32)]
    """How often the site has begun that process before."""
    worker: Annotated[str, Field(min_length=1, max_length=100)]
    """Made up by the worker: it may ask twice, and nobody else in its name."""

    def may_follow(self, holder: Claim | None) -> bool:
        """Whether the container is given to this one. A site runs a process again only when its last run has ended."""
        if holder is None or self == holder:
            return True
        return self.process == holder.process and self.run > holder.run
