"""The reasons why a job failed, in words, for the card and ``%cts why``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cts_core.worker.units import format_exact_size
from cts_jupyter import formatting
from cts_jupyter.client.models import Fix, Reason

MAX_NUMBERS = 10


def describe_reason(reason: Reason) -> str:
    """Return which containers failed, and why: ``Containers 1, 4 ended with exit code 4``."""
    code = "" if reason.exit_code is None else f"exit code {reason.exit_code}"
    who = name_containers(reason.containers)
    if reason.reason is None:
        return f"{who or 'It'} ended with {code or 'an error'}"
    if not who:
        return reason.reason
    return f"{who}: {reason.reason.rstrip('.')} ({code})." if code else f"{who}: {reason.reason}"


def name_containers(numbers: Sequence[int]) -> str:
    """Return the numbers of containers as words; empty for none."""
    if not numbers:
        return ""
    more = ", ..." if len(numbers) > MAX_NUMBERS else ""
    named = ", ".join(str(number) for number in numbers[:MAX_NUMBERS])
    return f"Container{'' if len(numbers) == 1 else 's'} {named}{more}"


def describe_inputs(reason: Reason) -> Iterator[str]:
    """Yield a line that names the inputs; none where there are none."""
    if reason.inputs:
        named = formatting.name_some(reason.inputs, total=reason.input_count)
        yield f"Input{'' if reason.input_count == 1 else 's'}: {named}"


def log_end(reason: Reason) -> tuple[str, str] | None:
    """Return whose log it is and its end; None where there is none."""
    stream, text = ("stderr", reason.stderr) if reason.stderr else ("stdout", reason.stdout)
    if not text:
        return None
    number = reason.containers[0] if reason.containers else 0
    return f"The end of the {stream} of container {number}:", text


def resubmit_command(job: str, fix: Fix) -> str:
    """Return the line that resubmits a job so."""
    words = ["%cts resubmit", job]
    if fix.failed:
        words.append("--failed")
    if fix.memory is not None:
        words.append(f"--memory {format_exact_size(fix.memory)}")
    if fix.runtime is not None:
        words.append(f"--runtime {formatting.format_brief_duration(fix.runtime)}")
    if fix.refresh_inputs:
        words.append("--refresh-inputs")
    return " ".join(words)
