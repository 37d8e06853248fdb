"""Routes that list and count jobs, and that set the user's read marker."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from cts_core.engine.cursor import read_cursor
from cts_core.images.names import parse_image_name
from cts_core.json_pieces import Written
from cts_core.model.base import GivenTime
from cts_core.model.image import ImageName
from cts_core.model.job import MAX_LABELS, Jobs
from cts_core.model.listing import JobCounts, LabelKeys, LastLook
from cts_core.model.record import JobQuery, JobSort
from cts_core.model.site import SiteName
from cts_core.states import JobState
from cts_jupyter.server.http.call import Call
from cts_jupyter.server.http.parse import Repeatable
from cts_jupyter.server.http.route import Access, Route

MAX_LISTING = 1000

UserName = Annotated[
    str, StringConstraints(min_length=1, max_length=100, pattern=r"^[a-z][a-z\d_]*$")
]
_Label = Annotated[str, StringConstraints(pattern=r"^[^=]+=", max_length=400)]


class Order(StrEnum):
    """The sort order of a listing."""

    DESCENDING = "desc"
    ASCENDING = "asc"


class JobListing(BaseModel):
    """Filters, sort order and page of a listing of jobs.

    A job may be in any of several states. ``text`` is searched for in id, image, cluster, output folder, labels and error; ``image`` is a name, with or
    without tag and digest; ``label`` is ``key=value``, and a job must have each of several. ``containers`` adds to each job that is not
    complete the number of its containers in each state.
    """

    cluster: SiteName | None = None
    state: Annotated[frozenset[JobState], Repeatable()] = Field(default_factory=frozenset)
    after: GivenTime | None = None
    before: GivenTime | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_LISTING)] | None = MAX_LISTING
    label: Annotated[list[_Label], Field(max_length=MAX_LABELS)] = []
    image: ImageName | None = None
    text: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    ended: bool | None = None
    sort: JobSort = JobSort.UPDATED
    order: Order = Order.DESCENDING
    cursor: Annotated[str, StringConstraints(min_length=1, max_length=300)] | None = None
    containers: bool = False

    def to_query(self, user: str | None = None) -> JobQuery:
        """Return the engine's query. Raises ImageNameError and IllegalParameterError."""
        image = parse_image_name(self.image) if self.image else None
        ascending = self.order is Order.ASCENDING
        return JobQuery(
            user=user,
            cluster=self.cluster,
            states=self.state,
            ended=self.ended,
            after=self.after,
            before=self.before,
            labels=dict(label.split("=", 1) for label in self.label),
            image_name=image.name if image else None,
            image_tag=image.tag if image else None,
            image_digest=image.digest if image else None,
            text=self.text,
            sort=self.sort,
            ascending=ascending,
            position=read_cursor(self.cursor, self.sort, ascending=ascending)
            if self.cursor
            else None,
            limit=self.limit or MAX_LISTING,
        )


class OwnListing(JobListing):
    """A listing of the caller's jobs; ``new`` selects those that ended after the read marker."""

    new: bool = False


class AdminListing(JobListing):
    """A listing of the jobs of one user, or of all."""

    user: UserName | None = None


class CountQuery(BaseModel):
    """The user whose jobs are counted; all users if not given."""

    user: UserName | None = None


async def list_jobs(call: Call, query: OwnListing) -> Written[Jobs]:
    """``GET /jobs``."""
    return await call.engine.jobs.list(
        call.user, query.to_query(), new=query.new, containers=query.containers
    )


async def count_jobs(call: Call) -> JobCounts:
    """``GET /jobs/counts``."""
    return await call.engine.jobs.counts(call.user)


async def list_label_keys(call: Call) -> LabelKeys:
    """``GET /jobs/labels``."""
    return await call.engine.jobs.label_keys(call.user)


async def set_last_look(call: Call, body: LastLook) -> None:
    """``PUT /jobs/last_look``."""
    await call.engine.jobs.set_last_seen(call.user, body)


async def admin_list_jobs(call: Call, query: AdminListing) -> Written[Jobs]:
    """``GET /admin/jobs``."""
    await _check_user(call, query.user)
    return await call.engine.admin.list(
        query.to_query(user=query.user), containers=query.containers
    )


async def admin_count_jobs(call: Call, query: CountQuery) -> JobCounts:
    """``GET /admin/jobs/counts``."""
    await _check_user(call, query.user)
    return await call.engine.admin.counts(query.user)


async def _check_user(call: Call, user: str | None) -> None:
    if user is not None:
        await call.engine.identity.check_user(user, call.credentials)


ROUTES = (
    Route("GET", "/jobs", list_jobs, Access.USER, "The caller's jobs, newest update first"),
    Route("GET", "/jobs/counts", count_jobs, Access.USER, "The caller's jobs by site and state"),
    Route(
        "GET", "/jobs/labels", list_label_keys, Access.USER, "Keys of labels of the caller's jobs"
    ),
    Route(
        "PUT",
        "/jobs/last_look",
        set_last_look,
        Access.USER,
        "Set the caller's read marker of ended jobs",
    ),
    Route("GET", "/admin/jobs", admin_list_jobs, Access.ADMIN, "Everybody's jobs"),
    Route(
        "GET", "/admin/jobs/counts", admin_count_jobs, Access.ADMIN, "All jobs by site and state"
    ),
)
