"""Endpoints for one job: submit, read, cancel, resubmit, outputs, logs and events."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel

from cts_jupyter import formatting
from cts_jupyter.client.api.base import (
    KEY_HEADER,
    as_json,
    drop_none,
    quote_path,
    unknown_outcome,
)
from cts_jupyter.client.api.logs import LogEndpoints
from cts_jupyter.client.event_stream import EventStream
from cts_jupyter.client.models import (
    CheckResult,
    Container,
    ContainerPage,
    DraftCheck,
    JobDetails,
    JobOutput,
    JobOutputs,
    JobPreview,
    JobStatus,
    ResubmissionCheck,
    Why,
)
from cts_jupyter.client.transport import (
    SLOW_READ_SECONDS,
    CTSConnectionError,
    CTSRequestError,
    is_unsupported,
)

_PAGE = 10_000


class JobEndpoints(LogEndpoints):
    """Endpoints about one job each."""

    def submit(
        self, body: Mapping[str, Any] | BaseModel, idempotency_key: str | None = None
    ) -> str:
        """Submit a job and return its id.

        Sends an idempotency key of its own if none is given, so that the request can safely be repeated after a broken
        connection. With a service that has no such keys it is not repeated, and the error says that the outcome is unknown.
        """
        repeatable = self.supports("POST", "/jobs", KEY_HEADER)
        return self._submit("jobs", as_json(body), idempotency_key, repeatable=repeatable)

    def resubmit(
        self,
        job_id: str,
        *,
        failed: bool | None = None,
        containers: Collection[int] | None = None,
        memory: str | int | None = None,
        runtime: timedelta | None = None,
        output_dir: str | None = None,
        refresh_inputs: bool | None = None,
        idempotency_key: str | None = None,
    ) -> str:
        """Submit a job again and return the new job's id.

        ``failed``: only the inputs of containers that did not complete; with ``containers``, of those with these numbers.
        Without ``output_dir`` the outputs go into an empty folder beside the first one. Without ``refresh_inputs``, inputs
        that have changed are refused.
        """
        body = _changes(
            failed=failed,
            containers=containers,
            memory=memory,
            runtime=runtime,
            output_dir=output_dir,
            refresh_inputs=refresh_inputs,
        )
        path = f"jobs/{quote_path(job_id)}/resubmit"
        return self._submit(path, body, idempotency_key, repeatable=True)

    def check_resubmission(
        self,
        job_id: str,
        *,
        failed: bool | None = None,
        containers: Collection[int] | None = None,
        memory: str | int | None = None,
        runtime: timedelta | None = None,
        output_dir: str | None = None,
        refresh_inputs: bool | None = None,
    ) -> ResubmissionCheck:
        """Return the job that :meth:`resubmit` would submit, as it would run, without submitting it."""
        body = _changes(
            failed=failed,
            containers=containers,
            memory=memory,
            runtime=runtime,
            output_dir=output_dir,
            refresh_inputs=refresh_inputs,
        )
        path = f"jobs/{quote_path(job_id)}/resubmit/check"
        return ResubmissionCheck.model_validate(self._try_check(path, body))

    def _submit(
        self, path: str, body: Mapping[str, Any], key: str | None, *, repeatable: bool
    ) -> str:
        try:
            response = self._transport.json(
                "POST",
                path,
                json=body,
                headers={KEY_HEADER: key or str(uuid.uuid4())},
                repeatable=repeatable,
                read_seconds=SLOW_READ_SECONDS,
            )
        except CTSConnectionError as e:
            raise unknown_outcome(e) from e
        return str(response["job_id"])

    def check(
        self, body: Mapping[str, Any] | BaseModel, *, containers: Collection[int] | None = None
    ) -> CheckResult:
        """Return the job as it would run, without submitting it, with the plans of these containers, or of all."""
        return CheckResult.model_validate(self._check(body, containers))

    def check_draft(
        self, body: Mapping[str, Any] | BaseModel, *, containers: Collection[int] | None = None
    ) -> DraftCheck:
        """Return all problems of a submission, and the job as far as it is known how it would run.

        An older service refuses with the first problem, and answers a job without problems.
        """
        return DraftCheck.model_validate(self._check(body, containers, all=True))

    def _check(
        self,
        body: Mapping[str, Any] | BaseModel,
        containers: Collection[int] | None,
        **query: bool,
    ) -> Any:  # noqa: ANN401 - JSON
        numbers = None if containers is None else ",".join(map(str, containers))
        return self._try_check("jobs/check", as_json(body), drop_none(containers=numbers, **query))

    def _try_check(self, path: str, body: object, query: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401 - JSON
        try:
            return self._transport.json(
                "POST",
                path,
                params=query,
                json=body,
                repeatable=True,
                read_seconds=SLOW_READ_SECONDS,
            )
        except CTSRequestError as e:
            if not is_unsupported(e):
                raise
            raise e.reworded(
                f"The service at {self._transport.url} cannot check a job without running it; nothing was submitted"
            ) from e

    def job(self, job_id: str) -> JobDetails:
        """Return a job with its files."""
        return JobDetails.model_validate(self._get(f"jobs/{quote_path(job_id)}"))

    def job_preview(self, job_id: str) -> JobPreview:
        """Return a job without its files. An older service sends the whole job all the same."""
        found = self._get(f"jobs/{quote_path(job_id)}", {"files": False})
        return JobPreview.model_validate(found)

    def status(self, job_id: str, *, containers: bool = False) -> JobStatus:
        """Return a job's state and its history; with ``containers``, the number of its containers in each state, unless it is complete."""
        query = {"containers": True} if containers else {}
        return JobStatus.model_validate(self._get(f"jobs/{quote_path(job_id)}/status", query))

    def containers(self, job_id: str) -> list[Container]:
        """Return a job's containers by number."""
        return self.container_page(job_id).containers

    def container_page(
        self,
        job_id: str,
        *,
        detail: bool | None = None,
        state: str | Collection[str] | None = None,
        after: int | None = None,
        limit: int | None = None,
    ) -> ContainerPage:
        """Return a page of a job's containers by number, of those in a state or in any of several.

        Without ``detail`` they have neither inputs nor outputs. An older service sends all of them with all details.
        """
        query = drop_none(detail=detail, state=state, after=after, limit=limit)
        return ContainerPage.model_validate(
            self._get(f"jobs/{quote_path(job_id)}/containers", query)
        )

    def exit_codes(self, job_id: str) -> list[int | None]:
        """Return the exit codes by container; None for a container that has none (yet)."""
        return list(self._get(f"jobs/{quote_path(job_id)}/exit_codes")["exit_codes"])

    def why(self, job_id: str) -> Why:
        """Return why a job failed, and what would mend it."""
        return Why.model_validate(self._get(f"jobs/{quote_path(job_id)}/why"))

    def methods(self, job_id: str) -> str:
        """Return a paragraph on a job for a paper."""
        with self._transport.stream("GET", f"jobs/{quote_path(job_id)}/methods") as response:
            return b"".join(self._transport.pieces(response)).decode()

    def outputs(
        self,
        job_id: str,
        *,
        family: bool | None = None,
        after: str | None = None,
        limit: int = _PAGE,
    ) -> JobOutputs:
        """Return a page of the outputs of a job's completed containers; ``after`` is the ``next`` of the page before.

        With ``family``, the job that it is a resubmission of and all resubmissions are treated as one job.
        """
        query = drop_none(family=family, after=after, limit=limit)
        return JobOutputs.model_validate(self._get(f"jobs/{quote_path(job_id)}/outputs", query))

    def iter_outputs(self, job_id: str, *, family: bool = False) -> Iterator[JobOutput]:
        """Iterate over all outputs, page by page; see :meth:`outputs`."""
        page = self.outputs(job_id, family=family)
        yield from page.outputs
        while page.next is not None:
            page = self.outputs(job_id, family=family, after=page.next)
            yield from page.outputs

    def set_labels(self, job_id: str, labels: Mapping[str, str]) -> None:
        """Replace the labels of a job, in any state."""
        self._put(f"jobs/{quote_path(job_id)}/labels", {"labels": dict(labels)})

    def cancel(self, job_id: str) -> None:
        """Cancel a job."""
        self._put(f"jobs/{quote_path(job_id)}/cancel")

    def events(self, *, after: datetime | None = None, job: str | None = None) -> EventStream:
        """Return the stream of events of the user's own jobs, or of one, from ``after`` or from now; see EventStream."""
        return EventStream(self._transport, "events", drop_none(job=job), after=after)

    def job_events(self, job_id: str, *, after: datetime | None = None) -> EventStream:
        """Return the stream of events of a job from ``after`` or from its first; the iteration ends with the job."""
        return EventStream(self._transport, f"jobs/{quote_path(job_id)}/events", after=after)


def _changes(
    *, containers: Collection[int] | None, runtime: timedelta | None, **others: object
) -> dict[str, Any]:
    """Return the body of a resubmission."""
    numbers = None if containers is None else sorted(containers)
    iso = None if runtime is None else formatting.format_iso_duration(runtime)
    return drop_none(containers=numbers, runtime=iso, **others)
