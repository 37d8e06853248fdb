"""Why a job failed, and what to do about it. Pure functions.

The service answers by them, and a client in the place of a service that is too old for that.
"""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol, TypeVar

from pydantic import ByteSize, TypeAdapter

from cts_core.model.job import MAX_MEMORY, MAX_RUNTIME
from cts_core.model.resubmission import Resubmission
from cts_core.model.site import SiteLimits
from cts_core.model.why import Reason, Why
from cts_core.states import TERMINAL, JobState
from cts_core.worker.advice import AGAIN, CHANGED, LONGER_RUNTIME, MORE_MEMORY
from cts_core.worker.units import format_seconds, format_size

NO_OUTPUTS = "The job produced no output files"
"""The error of a job whose containers ended well and left nothing; the sentence is the deployed service's."""
NON_ZERO_EXIT = (
    "At least one container exited with a non-zero error code. Please examine the logs for details."
)
"""The error of a job whose containers say nothing but exit codes; the sentence is the deployed service's."""
MAX_LOGS = 5
"""The reasons that have the end of a log."""
MAX_INPUTS = 20
"""The input files that one reason names."""
TAIL_BYTES, TAIL_LINES = 2_000, 20
"""The part of a log that is shown: at most this much of its end."""
_Amount = TypeVar("_Amount", int, timedelta)
_SIZE = TypeAdapter(ByteSize)
_FACTOR = 2
"""How many times as much runtime is tried next, and memory of what was asked for or used."""
_FACTOR_AGAIN = 4
"""The same where a resubmission with more has failed for want of it again."""
_KILLED = 137
"""The exit code of a program that was killed: at sites that measure no memory, mostly for want of it."""
_GIGABYTE = 1_000_000_000
_MEMORY = re.compile(rf"{re.escape(MORE_MEMORY)}|it asked for \d+ MiB of memory and used ")
_RUNTIME = re.compile(
    rf"{re.escape(LONGER_RUNTIME)}|The container was stopped: .*, and its limit is \d"
)
_CHANGED = re.compile(
    rf"{re.escape(CHANGED)}|The expected CRC64/N[MV]{{2}}E checksum '.*' for the path '.*' does not match"
)
"""By the sentences of today, and by those that earlier versions stored and workers of them still report."""
_OF_INPUTS = (
    (_CHANGED, "Submit it again with the input as it is now."),
    (
        re.compile(r"The path '.*' was not found"),
        "Store the input again, and submit it again with what is there then; or submit it with others.",
    ),
)
"""Failures for the sake of an input, and what mends each."""
_VARIABLE = re.compile(r"'[^']*'|\d[\d.]*( (bytes|[kMGTP]?B|min|[dhs])\b)?")
"""What differs in the errors of containers that failed for one reason: names, and sizes and times."""
_USED = re.compile(r"\bused (\d[\d.]* [kMGTP]i?B)\b")
"""What a container that was stopped for want of memory had used."""
_USAGE = re.compile(
    r"^\s*usage:|(unknown|unrecogni[sz]ed|invalid|illegal|no such) (command|option|flag|argument|subcommand)",
    re.IGNORECASE | re.MULTILINE,
)
"""What programs write about arguments that they do not take."""


class InputFile(Protocol):
    """An input file of a container, as the service or a client has it."""

    @property
    def file(self) -> str:
        """Its path."""


class Measured(Protocol):
    """A container or a job with the peaks of its memory."""

    @property
    def max_memory(self) -> int | None: ...  # noqa: D102 - the model says what it is
    @property
    def max_anonymous_memory(self) -> int | None: ...  # noqa: D102


class Ended(Protocol):
    """A container and how it has ended, if it has."""

    @property
    def state(self) -> str: ...  # noqa: D102 - the model says what it is
    @property
    def exit_code(self) -> int | None: ...  # noqa: D102
    @property
    def error(self) -> str | None: ...  # noqa: D102


class Container(Measured, Ended, Protocol):
    """A container, as the service or a client has it."""

    @property
    def number(self) -> int: ...  # noqa: D102 - the model says what it is
    @property
    def inputs(self) -> Sequence[InputFile] | None: ...  # noqa: D102


@dataclass(frozen=True)
class Lack:
    """What a job had too little of, as much as that was."""

    memory: int | None = None
    runtime: timedelta | None = None


@dataclass(frozen=True)
class JobFacts:
    """What matters of a job here."""

    state: str
    error: str | None
    memory: int
    runtime: timedelta
    cpus: int
    output_mount: str
    memory_used: int | None = None
    """The most that one of its containers used, see ``memory_used``; None if it is not known."""
    limits: SiteLimits | None = None
    """Those of its site; None if they are not known."""
    max_cpu_hours: float | None = None
    lacked_before: Lack = Lack()
    """What the job of which it is a resubmission had too little of."""


@dataclass(frozen=True)
class LogTail:
    """The end of a container's logs."""

    stdout: str = ""
    stderr: str = ""


def memory_used(measured: Measured) -> int | None:
    """Return the peak of the memory by which to size: that which the kernel cannot take back, if it is known."""
    if measured.max_anonymous_memory is not None:
        return measured.max_anonymous_memory
    return measured.max_memory


def has_failed(container: Ended) -> bool:
    """Return whether a container has failed, its logs stored or not yet."""
    if container.state in (JobState.CANCELING, JobState.CANCELED):
        # It may have an exit code of being stopped.
        return False
    return container.state.startswith(JobState.ERROR) or bool(container.exit_code)


def find_lack(memory: int, runtime: timedelta, containers: Sequence[Ended]) -> Lack:
    """Return what a job had too little of, by its failed containers."""
    failed = [
        (container.error or "", container.exit_code)
        for container in containers
        if has_failed(container)
    ]
    return Lack(
        memory=memory if any(_lacks_memory(*ended) for ended in failed) else None,
        runtime=runtime if any(_RUNTIME.search(error) for error, _ in failed) else None,
    )


def lack_warnings(lack: Lack, memory: int, runtime: timedelta) -> list[str]:
    """Return warnings of a resubmission that asks for no more of what the containers before it had too little of."""
    warnings = []
    if lack.memory is not None and memory <= lack.memory:
        warnings.append(_too_little_again("memory", format_size(lack.memory)))
    if lack.runtime is not None and runtime <= lack.runtime:
        warnings.append(_too_little_again("runtime", _format_runtime(lack.runtime)))
    return warnings


def _too_little_again(what: str, had: str) -> str:
    return f"Containers failed for want of {what} with {had}, and these ask for no more: ask for more {what}"


def group_failed(containers: Sequence[Container]) -> list[list[Container]]:
    """Return the failed containers by their reason, the largest group first."""
    groups: dict[object, list[Container]] = defaultdict(list)
    for container in filter(has_failed, containers):
        error = container.error and _VARIABLE.sub("", container.error)
        groups[container.exit_code, error].append(container)
    return sorted(groups.values(), key=lambda group: -len(group))


def logs_to_read(job: JobFacts, containers: Sequence[Container]) -> list[int]:
    """Return the numbers of the containers whose logs ``explain`` shows."""
    return [group[0].number for group in _groups(job, containers)[:MAX_LOGS]]


def explain(job: JobFacts, containers: Sequence[Container], logs: Mapping[int, LogTail]) -> Why:
    """Return why a job failed; ``logs`` are those of ``logs_to_read`` that could be read, by number."""
    unfinished = sum(container.state != JobState.COMPLETE for container in containers)
    used = [job.memory_used, *map(memory_used, containers)]
    job = replace(job, memory_used=max(filter(None, used), default=None))
    reasons = [
        _reason(job, group, logs.get(group[0].number, LogTail()), unfinished)
        for group in _groups(job, containers)
    ]
    if job.state == JobState.ERROR and not reasons:
        hint, fix = _advise(job, job.error or "", None, LogTail(), unfinished)
        reasons = [
            Reason(reason=job.error, containers=[], inputs=[], input_count=0, hint=hint, fix=fix)
        ]
    state = JobState(job.state)
    fix = _merge([reason.fix for reason in reasons if reason.fix])
    if state is JobState.CANCELED:
        fix = Resubmission(failed=unfinished > 0)
    return Why(state=state, reasons=reasons, fix=fix)


def tail_text(content: bytes, *, is_whole: bool) -> str:
    """Return the last lines of the end of a log; of a part, without its first line, which may begin anywhere."""
    text = content.decode(errors="replace")
    if not is_whole:
        text = text.partition("\n")[2] or text
    return "\n".join(text.rstrip().splitlines()[-TAIL_LINES:])


def _groups(job: JobFacts, containers: Sequence[Container]) -> list[list[Container]]:
    if job.state == JobState.ERROR and job.error == NO_OUTPUTS and containers:
        return [list(containers)]
    return group_failed(containers)


def _reason(job: JobFacts, group: Sequence[Container], log: LogTail, unfinished: int) -> Reason:
    first = group[0]
    error = _error(group) if has_failed(first) else job.error
    lacks_outputs = error == NO_OUTPUTS
    # What should have been an output may be there.
    shows_stdout = not log.stderr or (lacks_outputs and log.stdout != "")
    failed = [] if lacks_outputs else group
    paths = [file.file for container in failed for file in container.inputs or ()]
    hint, fix = _advise(job, error or "", first.exit_code, log, unfinished)
    return Reason(
        reason=_without_outputs(job, log) if lacks_outputs else error,
        exit_code=first.exit_code,
        containers=[container.number for container in failed],
        inputs=_named_first(paths, f"{error} {log.stderr} {log.stdout}")[:MAX_INPUTS],
        input_count=len(paths),
        stdout=log.stdout or None if shows_stdout else None,
        stderr=None if shows_stdout else log.stderr or None,
        hint=hint,
        fix=fix,
    )


def _error(group: Sequence[Container]) -> str | None:
    """Return the error of the first; where they used different amounts of memory, the one of the most, which says so."""
    used = {
        error: _SIZE.validate_python(found[1])
        for error in (container.error or "" for container in group)
        if (found := _USED.search(error))
    }
    if len(set(used.values())) < 2:  # noqa: PLR2004 - all used the same, or none says
        return group[0].error
    return _USED.sub(r"used up to \1", max(used, key=lambda error: used[error]), count=1)


def _without_outputs(job: JobFacts, log: LogTail) -> str:
    """Return where outputs were looked for, and where the program wrote instead."""
    wrote = [name for name, text in (("stdout", log.stdout), ("stderr", log.stderr)) if text]
    where = f", and the program wrote to {' and '.join(wrote)} alone" if wrote else ""
    return f"{NO_OUTPUTS}: nothing was in {job.output_mount} at its end{where}."


def _named_first(paths: Sequence[str], text: str) -> list[str]:
    """Return the paths; those that the text names, by path or by base name, come first."""
    return sorted(paths, key=lambda path: not _is_named(path, text))


def _is_named(path: str, text: str) -> bool:
    name = posixpath.basename(path)
    # Of 10,000 names nearly none is in the text at all, and that is quickly seen.
    return name in text and bool(re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-]|\.\w)", text))


def _advise(
    job: JobFacts, error: str, exit_code: int | None, log: LogTail, unfinished: int
) -> tuple[str, Resubmission | None]:
    """Return what to do about a failure, and the resubmission of the ``unfinished`` containers that mends it."""
    hint, fix = _mend(job, error, exit_code, log, unfinished)
    if fix is None or job.state not in TERMINAL:
        return hint, None
    return hint, fix.model_copy(update={"failed": unfinished > 0})


def _mend(
    job: JobFacts, error: str, exit_code: int | None, log: LogTail, unfinished: int
) -> tuple[str, Resubmission | None]:
    if error == NO_OUTPUTS:
        return (
            f"Submit it with arguments, or an environment, by which the program writes its results below {job.output_mount}.",
            None,
        )
    if _lacks_memory(error, exit_code):
        return _more_memory(job)
    if _RUNTIME.search(error):
        return _longer_runtime(job, unfinished)
    if hint := next((hint for failure, hint in _OF_INPUTS if failure.search(error)), None):
        return hint, Resubmission(refresh_inputs=True)
    if error:
        hint = AGAIN if error.endswith(AGAIN) else "Do what it says, and submit it again."
        return hint, Resubmission()
    return _by_logs(log)


def _lacks_memory(error: str, exit_code: int | None) -> bool:
    return bool(_MEMORY.search(error)) or (not error and exit_code == _KILLED)


def _by_logs(log: LogTail) -> tuple[str, Resubmission | None]:
    if _USAGE.search(log.stderr) or _USAGE.search(log.stdout):
        return "Its arguments are not what the program takes: submit it with others.", None
    return (
        (
            "Its logs say why. If an input is at fault, store a good one in its place and submit it again with what is "
            "there then; if the arguments are, submit it with others."
        ),
        Resubmission(refresh_inputs=True),
    )


def _more_memory(job: JobFacts) -> tuple[str, Resubmission | None]:
    most = job.limits.memory_per_node_gb * _GIGABYTE if job.limits else MAX_MEMORY
    if job.memory >= most:
        return (
            (
                f"A container may not ask for more memory than the {format_size(job.memory)} that it had: submit it with more "
                "containers, so that each has fewer files."
            ),
            None,
        )
    # What was measured of a container that was stopped is less than it needs.
    used = job.memory_used or 0
    factor, before = _next_try(job.lacked_before.memory, job.memory, format_size)
    memory = min(_round_up(factor * max(job.memory, used)), most, MAX_MEMORY)
    return (
        f"It asked for {format_size(job.memory)} of memory{before}: ask for more, such as {format_size(memory)}.",
        Resubmission(memory=ByteSize(memory)),
    )


def _next_try(
    lacked: _Amount | None, asked: _Amount, format_: Callable[[_Amount], str]
) -> tuple[int, str]:
    """Return how many times as much is tried next, and what is said of less of it that the job before had failed with."""
    if lacked is None or lacked >= asked:
        return _FACTOR, ""
    return _FACTOR_AGAIN, f", and the job that it resubmits had failed with {format_(lacked)}"


def _format_runtime(runtime: timedelta) -> str:
    return format_seconds(runtime.total_seconds())


def _round_up(size: int) -> int:
    """Return a size of at most two significant digits."""
    step = int(10 ** max(len(str(size)) - 2, 0))
    return -(-size // step) * step


def _longer_runtime(job: JobFacts, containers: int) -> tuple[str, Resubmission | None]:
    most = timedelta(minutes=job.limits.max_runtime_min) if job.limits else MAX_RUNTIME
    if job.max_cpu_hours is not None:
        share = job.max_cpu_hours / (job.cpus * max(containers, 1))
        most = min(most, timedelta(seconds=int(3600 * share)))
    if job.runtime >= most:
        return (
            (
                f"A job like it may not ask for a longer runtime than the {_format_runtime(job.runtime)} that it "
                "had: submit it with more containers, so that each has fewer files."
            ),
            None,
        )
    factor, before = _next_try(job.lacked_before.runtime, job.runtime, _format_runtime)
    runtime = min(factor * job.runtime, most)
    return (
        (
            f"It asked for a runtime of {_format_runtime(job.runtime)}{before}: ask for more, such as "
            f"{_format_runtime(runtime)}."
        ),
        Resubmission(runtime=runtime),
    )


def _merge(fixes: Sequence[Resubmission]) -> Resubmission | None:
    """Return the resubmission that does what each of them does."""
    if not fixes:
        return None
    return Resubmission(
        failed=any(fix.failed for fix in fixes),
        memory=max((fix.memory for fix in fixes if fix.memory), default=None),
        runtime=max((fix.runtime for fix in fixes if fix.runtime), default=None),
        refresh_inputs=any(fix.refresh_inputs for fix in fixes),
    )
