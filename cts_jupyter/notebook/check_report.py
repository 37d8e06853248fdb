"""The result of checking a submission without running it."""

from __future__ import annotations

import html
import logging
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from cts_core import plan
from cts_core.literals import parameter_warnings
from cts_core.model.parameters import Parameters
from cts_core.object_paths import as_folder
from cts_core.why import find_lack, lack_warnings
from cts_core.worker.units import format_size
from cts_jupyter import formatting
from cts_jupyter.client.client import CTSClient
from cts_jupyter.client.lookups import find_failed
from cts_jupyter.client.models import CheckResult, PlannedContainer
from cts_jupyter.client.resubmit import Overrides, body_of
from cts_jupyter.client.transport import CTSClientError
from cts_jupyter.notebook.output_folder import without_files

log = logging.getLogger(__name__)

_SHOWN_CONTAINERS = 3
_SHOWN_FILES = 5


def overwriting_warning(body: Mapping[str, Any]) -> str | None:
    """Return the check's warning of containers that overwrite each other's outputs, without asking the service.

    ``body`` is that of the REST API; one that the service will refuse has no warning.
    """
    try:
        params = Parameters.model_validate(body.get("params") or {})
        return plan.overwriting_warning(int(body.get("num_containers") or 1), params)
    except (TypeError, ValueError):
        return None


def submission_warnings(body: Mapping[str, Any]) -> list[str]:
    """Return the check's warnings that need no service. ``body`` is that of the REST API; a wrong one has none."""
    try:
        params = Parameters.model_validate(body.get("params") or {})
    except ValueError:
        return []
    overwriting = overwriting_warning(body)
    return [*parameter_warnings(params), *([overwriting] if overwriting else [])]


def resubmission_warnings(
    client: CTSClient, old_id: str, new_id: str, overrides: Overrides
) -> list[str]:
    """Return what may not be meant of a job that resubmits another one.

    Containers may overwrite each other's outputs, or have no more of the memory or runtime that those before them lacked.
    Where the service cannot be asked, there are none: the job is accepted by then.
    """
    try:
        had, new = client.job_preview(old_id).job_input, client.job(new_id)
        failed = find_failed(client, old_id)
    except CTSClientError as e:
        log.warning("What job %s resubmits could not be looked at: %s", new_id, e)
        return []
    overwriting = overwriting_warning(body_of(new))
    numbers = overrides.containers
    chosen = [each for each in failed if numbers is None or each.number in numbers]
    lack = find_lack(had.memory, had.runtime, chosen)
    lacking = lack_warnings(lack, new.job_input.memory, new.job_input.runtime)
    return [*([overwriting] if overwriting else []), *lacking]


class CheckReport:
    """A submission that the service has checked: what each container would run. Readable text in a notebook."""

    def __init__(
        self,
        result: CheckResult,
        submission: Mapping[str, Any],
        notes: Sequence[str] = (),
        *,
        rival: str | None = None,
    ) -> None:
        """``submission`` is what the REST API checked, ``notes`` say how it was understood, ``rival`` which job is in its way."""
        self.result = result
        self._submission = submission
        self._rival = rival
        self.notes = list(notes)
        self._output_dir = as_folder(submission["output_dir"])

    @property
    def containers(self) -> list[PlannedContainer]:
        """The command, environment and input files of each container."""
        return self.result.containers

    @property
    def warnings(self) -> list[str]:
        """Parts of the submission that are allowed and may not be what was meant."""
        return [*([self._rival] if self._rival else []), *self.result.warnings]

    def _lines(self) -> list[str]:
        result = self.result
        containers = formatting.plural(len(result.containers), "container")
        files = formatting.plural(result.input_file_count, "file")
        lines = [
            "This job can be submitted.",
            *(f"Warning: {text}" for text in self.warnings),
            f"{files} ({format_size(result.input_bytes)}) in {containers}, outputs in {self._output_dir}",
            *self._limits(),
            f"At most {result.cpu_hours:.3g} CPU hours",
            f"Image: {result.image.name}@{result.image.digest}",
        ]
        for container in result.containers[:_SHOWN_CONTAINERS]:
            lines += ["", f"Container {container.number}: {shlex.join(container.argv)}"]
            lines += [f"  {name}={value}" for name, value in container.environment.items()]
            lines += [f"  {file.crc64nvme}  {file.file}" for file in container.files[:_SHOWN_FILES]]
            if len(container.files) > _SHOWN_FILES:
                lines.append(
                    f"  and {formatting.plural(len(container.files) - _SHOWN_FILES, 'file')} more"
                )
            if container.manifest is not None:
                lines.append(f"  manifest: {container.manifest.splitlines()[:_SHOWN_FILES]}")
        if len(result.containers) > _SHOWN_CONTAINERS:
            hidden = len(result.containers) - _SHOWN_CONTAINERS
            lines += ["", f"and {formatting.plural(hidden, 'container')} more, in .containers"]
        lines += ["", *(f"Note: {note}" for note in self.notes)] if self.notes else []
        return lines

    def _limits(self) -> list[str]:
        try:
            asked = without_files(self._submission)
        except ValueError:
            # A newer service took what this version does not know.
            return []
        cpus = formatting.plural(asked.cpus, "cpu")
        runtime = formatting.format_duration(asked.runtime)
        return [
            f"Each container has {cpus}, {format_size(asked.memory)} of memory and {runtime} of time"
        ]

    def __repr__(self) -> str:
        return formatting.printable("\n".join(self._lines()))

    def _repr_html_(self) -> str:
        return f'<pre style="white-space:pre-wrap">{html.escape(repr(self))}</pre>'
