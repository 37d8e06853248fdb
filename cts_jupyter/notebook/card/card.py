"""The card of a job as the kernel writes it: text, and HTML that stays readable wherever the notebook is opened.

The HTML is a snapshot without scripts. In a page of the Jupyter server that the job's service runs in, JupyterLab
shows the live card instead, by the output's third form, :data:`MIME_TYPE`. None of them holds a token.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from datetime import timedelta
from textwrap import indent

from cts_core.object_paths import as_folder
from cts_core.states import JobState
from cts_core.why import memory_used
from cts_core.worker import checksum
from cts_core.worker.units import format_size
from cts_jupyter import formatting
from cts_jupyter.notebook.card.data import CardData
from cts_jupyter.notebook.reasons import describe_inputs, describe_reason, log_end

MAX_OUTPUTS = 20
"""The number of outputs that a snapshot names."""
MAX_REASONS = 3
"""The number of reasons that it names."""

_COUNTED = (
    ("failed", formatting.FAILING),
    ("cancelled", formatting.CANCELLING),
    ("waiting", formatting.WAITING),
)
_FACT = "margin:2px 0"
_FRAME = "border:1px solid #999;border-radius:4px;padding:8px 12px"
_WITH_FILES = " (%s with cached files)"

MIME_TYPE = "application/vnd.cts.job+json"
"""An output of this type names a job, and the JupyterLab extension shows it."""


def format_progress(counts: Mapping[str, int], total: int) -> str:
    """Return the progress of a job: ``3 of 5 containers done, 1 failed, 1 running``."""
    done = counts.get(JobState.COMPLETE, 0)
    parts = [f"{done:,} of {formatting.plural(total, 'container')} done"]
    rest = sum(counts.values()) - done
    for name, states in _COUNTED:
        number = sum(count for state, count in counts.items() if state in states)
        rest -= number
        if number:
            parts.append(f"{number:,} {name}")
    if rest > 0:
        parts.append(f"{rest:,} running")
    return ", ".join(parts)


def format_request(card: CardData) -> str:
    """Return what the job requested."""
    # A list of outputs names their folder itself.
    where = "" if card.outputs else f"; outputs into {card.output_dir}"
    return (
        f"{formatting.plural(card.input_files, 'file')} in {formatting.plural(card.containers, 'container')}, each with "
        f"{formatting.plural(card.cpus, 'cpu')}, {format_size(card.memory)} and up to "
        f"{formatting.format_duration(card.runtime)}, at {card.cluster}{where}"
    )


def format_usage(card: CardData) -> str:
    """Return the resources that the job used, as far as the service has them."""
    used = []
    if card.max_memory:
        total = format_size(card.max_memory)
        needed = format_size(memory_used(card) or card.max_memory)
        used.append(f"{needed} of memory at most{'' if needed == total else _WITH_FILES % total}")
    if card.cpu_hours is not None:
        efficiency = "" if card.cpu_factor is None else f" (cpu efficiency {card.cpu_factor:.0%})"
        time = formatting.format_duration(timedelta(hours=card.cpu_hours))
        used.append(f"{time} of cpu time{efficiency}")
    return f"Used {' and '.join(used)}" if used else ""


def format_failure(card: CardData) -> Iterator[str]:
    """Yield sentences about why the job failed, and what to do, without the log."""
    for reason in card.reasons[:MAX_REASONS]:
        yield describe_reason(reason)
        yield from describe_inputs(reason)
    if len(card.reasons) > MAX_REASONS:
        yield f"and {formatting.plural(len(card.reasons) - MAX_REASONS, 'other reason')}"
    if card.reasons:
        yield f"%cts why {card.short_id} says what to do"


def _relative(path: str, folder: str) -> str:
    return path.removeprefix(as_folder(folder))


def _crc_words(crc: str) -> str:
    return f"{crc}  (0 bytes)" if crc == checksum.EMPTY else crc


def card_text(card: CardData) -> str:
    """Return the card as text for a terminal."""
    lines = [
        f"Job {card.short_id}  {card.state_words}  {card.image}  ({card.age})",
        f"  {card.user} at {card.service}; {format_request(card)}",
        f"  {format_progress(card.counts, card.containers)}",
    ]
    if card.waits_for is not None:
        lines.append(f"  {card.waits_for}")
    if usage := format_usage(card):
        lines.append(f"  {usage}")
    lines += [f"  {line}" for line in format_failure(card)]
    if log := next(filter(None, map(log_end, card.reasons)), None):
        title, text = log
        lines += [f"  {title}", indent(text, "    ")]
    lines += [f"  Warning: {warning}" for warning in card.warnings]
    if card.outputs:
        lines.append(f"  {formatting.plural(len(card.outputs), 'output')} in {card.output_dir}")
        shown = [
            (_relative(path, card.output_dir), _crc_words(crc))
            for path, crc in card.outputs[:MAX_OUTPUTS]
        ]
        width = max(len(name) for name, _ in shown)
        lines += [f"    {name.ljust(width)}  {crc}" for name, crc in shown]
        if len(card.outputs) > MAX_OUTPUTS:
            lines.append(f"    and {len(card.outputs) - MAX_OUTPUTS:,} more")
    return formatting.printable("\n".join([*lines, *(f"  {note}" for note in card.notes)]))


def _fact(text: str) -> str:
    return f'<p style="{_FACT}">{html.escape(text)}</p>'


def _outputs_html(card: CardData) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(_relative(path, card.output_dir))}</td>"
        f"<td><code>{html.escape(_crc_words(crc))}</code></td></tr>"
        for path, crc in card.outputs[:MAX_OUTPUTS]
    )
    hidden = len(card.outputs) - MAX_OUTPUTS
    more = _fact(f"and {hidden:,} more: %cts files {card.short_id}") if hidden > 0 else ""
    title = f"{formatting.plural(len(card.outputs), 'output')} in {card.output_dir}"
    return (
        f"<details open><summary>{html.escape(title)}</summary><table><thead><tr><th>File</th>"
        f"<th>CRC64/NVME</th></tr></thead><tbody>{rows}</tbody></table>{more}</details>"
    )


def _timeline_html(card: CardData) -> str:
    start = card.timeline[0][1]
    items = "".join(
        f"<li>{html.escape(formatting.format_state(state))}: {formatting.format_time(time)} "
        f"(+{formatting.format_duration(time - start)})</li>"
        for state, time in card.timeline
    )
    return f"<details><summary>Timeline</summary><ol>{items}</ol></details>"


def card_reference(card: CardData) -> Mapping[str, str]:
    """Return what the JupyterLab extension is told of the job: where it is, and not what it is now."""
    reference = {"job": card.job_id, "service": card.service}
    return reference if card.instance is None else reference | {"instance": card.instance}


def card_html(card: CardData) -> str:
    """Return the snapshot as HTML."""
    state = html.escape(card.state_words)
    image = html.escape(card.image)
    parts = [
        f'<p style="{_FACT}"><strong>{image}</strong>, <strong>{state}</strong>, {card.age}</p>',
        _fact(f"Job {card.short_id} of {card.user} at {card.service}"),
        _fact(format_progress(card.counts, card.containers)),
        _fact(format_request(card)),
    ]
    if card.waits_for is not None:
        parts.append(_fact(card.waits_for))
    if usage := format_usage(card):
        parts.append(_fact(usage))
    parts += [_fact(line) for line in format_failure(card)]
    if log := next(filter(None, map(log_end, card.reasons)), None):
        title, text = log
        parts += [_fact(title), f"<pre>{html.escape(text)}</pre>"]
    parts += [_fact(f"Warning: {warning}") for warning in card.warnings]
    if card.outputs:
        parts.append(_outputs_html(card))
    parts.append(_timeline_html(card))
    if not formatting.has_ended(card.state):
        parts.append(_fact(f"%cts status {card.short_id} shows how it is now"))
    parts += [_fact(note) for note in card.notes]
    return f'<div style="{_FRAME}">{"".join(parts)}</div>'
