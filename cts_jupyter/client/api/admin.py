"""Endpoints for admins: jobs of all users, notifications and reference data."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, Unpack

from cts_jupyter import formatting
from cts_jupyter.client.api.base import drop_none, quote_path
from cts_jupyter.client.api.listing import JobFilters, as_query
from cts_jupyter.client.api.logs import LogEndpoints
from cts_jupyter.client.api.refdata import AdminRefdataEndpoints
from cts_jupyter.client.event_stream import EventStream
from cts_jupyter.client.models import JobCount, JobDetails, JobPage, Response, S3File, Transition


class AdminTransition(Transition):
    """A transition with its message."""

    trans_id: str
    notif_sent: bool


class AdminJob(JobDetails):
    """A job with the fields that only admins see."""

    transition_times: list[AdminTransition]  # type: ignore[assignment]  # a list of a narrower model
    admin_error: str | None = None
    traceback: str | None = None
    cleaned: bool = False
    htcondor_details: dict[str, Any] | None = None
    nersc_details: dict[str, Any] | None = None
    jaws_details: dict[str, Any] | None = None


class AdminContainer(Response):
    """A container with the fields that only admins see; ``sub_id`` is its number."""

    id: str
    sub_id: int
    state: str
    transition_times: list[Transition]
    exit_code: int | None = None
    outputs: list[S3File] | None = None
    admin_error: str | None = None
    traceback: str | None = None


class UnsentNotifications(Response):
    """The numbers of notifications that were sent late, and of their jobs."""

    jobs: int
    transitions: int


class AdminFilters(JobFilters, total=False):
    """Filters for listing jobs of one user or of all."""

    user: str | None


class AdminEndpoints(AdminRefdataEndpoints, LogEndpoints):
    """Endpoints about the jobs of all users, and about reference data."""

    _jobs = "admin/jobs"

    def job_page(self, **filters: Unpack[AdminFilters]) -> JobPage:
        """Return a page of all users' jobs, newest update first unless the filters say otherwise."""
        return JobPage.model_validate(self._get("admin/jobs", as_query(filters)))

    def job_counts(self, *, user: str | None = None) -> list[JobCount]:
        """Return the numbers of jobs by site and state, of one user or of all."""
        items = self._get("admin/jobs/counts", drop_none(user=user))["counts"]
        return [JobCount.model_validate(count) for count in items]

    def events(self, *, after: datetime | None = None) -> EventStream:
        """Return the stream of events of everybody's jobs, from ``after`` or from now; see EventStream."""
        return EventStream(self._transport, "admin/events", after=after)

    def job(self, job_id: str) -> AdminJob:
        """Return a job with the fields that only admins see."""
        return AdminJob.model_validate(self._get(_path(job_id)))

    def cancel(self, job_id: str) -> None:
        """Cancel a job."""
        self._put(_path(job_id, "cancel"))

    def clean(self, job_id: str, *, force: bool | None = None) -> None:
        """Remove what a job left at its site; with ``force`` also of a job that has not ended."""
        self._transport.json("DELETE", _path(job_id, "clean"), params=drop_none(force=force))

    def containers(self, job_id: str) -> list[AdminContainer]:
        """Return a job's containers by number."""
        items = self._get(_path(job_id, "container"))["subjobs"]
        return [AdminContainer.model_validate(container) for container in items]

    def container(self, job_id: str, number: int) -> AdminContainer:
        """Return one container of a job."""
        return AdminContainer.model_validate(self._get(_path(job_id, "container", str(number))))

    def exit_codes(self, job_id: str) -> list[int | None]:
        """Return the exit codes by container; None for a container that has none (yet)."""
        return list(self._get(_path(job_id, "exit_codes"))["exit_codes"])

    def update_meta(
        self,
        job_id: str,
        *,
        set_fields: Mapping[str, str | int | float] | None = None,
        unset_keys: Collection[str] | None = None,
    ) -> None:
        """Set and remove fields of a job's ``admin_meta``."""
        keys = None if unset_keys is None else list(unset_keys)
        self._put(_path(job_id, "meta"), drop_none(set_fields=set_fields, unset_keys=keys))

    def notify(self, job_id: str, state: str) -> None:
        """Send the notification of a transition again."""
        self._transport.json("PUT", _path(job_id, "notify"), params={"state": state})

    def runner_status(self, job_id: str, *, container_number: int | None = None) -> dict[str, Any]:
        """Return the site's own status of a container."""
        query = drop_none(container_number=container_number)
        return dict(self._get(_path(job_id, "runner_status"), query))

    def send_unsent(self, *, notification_age: timedelta | None = None) -> UnsentNotifications:
        """Send notifications that are at least this old and were not acknowledged."""
        age = None if notification_age is None else formatting.format_iso_duration(notification_age)
        response = self._transport.json(
            "POST", "admin/unsent_notifications", params=drop_none(notification_age=age)
        )
        return UnsentNotifications.model_validate(response)


def _path(job_id: str, *more: str) -> str:
    return "/".join(["admin/jobs", quote_path(job_id), *more])
