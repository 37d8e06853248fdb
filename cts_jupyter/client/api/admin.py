"""Everybody's jobs, for admins, and whatever else is theirs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any, Unpack

from cts_jupyter import formatting
from cts_jupyter.client.api.base import given, in_path
from cts_jupyter.client.api.listing import JobFilters, as_query
from cts_jupyter.client.api.refdata import AdminRefdataEndpoints
from cts_jupyter.client.models import JobCount, JobDetails, JobPage, Response, S3File, Transition


class AdminTransition(Transition):
    """A transition with its message."""

    trans_id: str
    notif_sent: bool


class AdminJob(JobDetails):
    """A job as an admin sees it."""

    transition_times: list[AdminTransition]  # type: ignore[assignment]  # a list of a narrower model
    admin_error: str | None = None
    traceback: str | None = None
    cleaned: bool = False
    htcondor_details: dict[str, Any] | None = None
    nersc_details: dict[str, Any] | None = None
    jaws_details: dict[str, Any] | None = None


class AdminContainer(Response):
    """A container as an admin sees it; ``sub_id`` is its number."""

    id: str
    sub_id: int
    state: str
    transition_times: list[Transition]
    exit_code: int | None = None
    outputs: list[S3File] | None = None
    admin_error: str | None = None
    traceback: str | None = None


class UnsentNotifications(Response):
    """How many messages were sent after all, and of how many jobs."""

    jobs: int
    transitions: int


class AdminFilters(JobFilters, total=False):
    """Which jobs to list, of one user or of all."""

    user: str | None


class AdminEndpoints(AdminRefdataEndpoints):
    """About anybody's jobs, and reference data."""

    def job_page(self, **filters: Unpack[AdminFilters]) -> JobPage:
        """A page of everybody's jobs, newest update first if nothing else is asked for."""
        return JobPage.model_validate(self._get("admin/jobs", as_query(filters)))

    def job_counts(self, *, user: str | None = None) -> list[JobCount]:
        """How many jobs there are by site and state, of one user or of all."""
        found = self._get("admin/jobs/counts", given(user=user))["counts"]
        return [JobCount.model_validate(count) for count in found]

    def job(self, job_id: str) -> AdminJob:
        """A job with all that is known of it."""
        return AdminJob.model_validate(self._get(_path(job_id)))

    def cancel(self, job_id: str) -> None:
        """Have a job stopped."""
        self._put(_path(job_id, "cancel"))

    def clean(self, job_id: str, *, force: bool | None = None) -> None:
        """Have what a job left at its site removed; ``force`` also for one that has not ended."""
        self._transport.json("DELETE", _path(job_id, "clean"), params=given(force=force))

    def containers(self, job_id: str) -> list[AdminContainer]:
        """A job's containers by number."""
        found = self._get(_path(job_id, "container"))["subjobs"]
        return [AdminContainer.model_validate(container) for container in found]

    def container(self, job_id: str, number: int) -> AdminContainer:
        """One container of a job."""
        return AdminContainer.model_validate(self._get(_path(job_id, "container", str(number))))

    def exit_codes(self, job_id: str) -> list[int | None]:
        """Exit codes by container; None for one that has none (yet)."""
        return list(self._get(_path(job_id, "exit_codes"))["exit_codes"])

    def update_meta(
        self,
        job_id: str,
        *,
        set_fields: Mapping[str, str | int | float] | None = None,
        unset_keys: Collection[str] | None = None,
    ) -> None:
        """Note things on a job, and remove notes."""
        keys = None if unset_keys is None else list(unset_keys)
        self._put(_path(job_id, "meta"), given(set_fields=set_fields, unset_keys=keys))

    def notify(self, job_id: str, state: str) -> None:
        """Send the message of a transition once more."""
        self._transport.json("PUT", _path(job_id, "notify"), params={"state": state})

    def runner_status(self, job_id: str, *, container_number: int | None = None) -> dict[str, Any]:
        """What the site itself says of a container."""
        query = given(container_number=container_number)
        return dict(self._get(_path(job_id, "runner_status"), query))

    def send_unsent(self, *, notification_age: timedelta | None = None) -> UnsentNotifications:
        """Send messages that were due so long ago, and have not been acknowledged."""
        age = None if notification_age is None else formatting.format_iso_duration(notification_age)
        answer = self._transport.json(
            "POST", "admin/unsent_notifications", params=given(notification_age=age)
        )
        return UnsentNotifications.model_validate(answer)


def _path(job_id: str, *more: str) -> str:
    return "/".join(["admin/jobs", in_path(job_id), *more])
