"""The states of jobs, from the table of transitions."""

from __future__ import annotations

from collections.abc import Iterator

from cts_core.states import TERMINAL, JobState, may_follow
from cts_jupyter.formatting import STATE_WORDS
from cts_reference.markdown import code, escape, table

_FROM_ANYWHERE = frozenset({JobState.ERROR, JobState.CANCELING})
"""States that follow nearly every other: the drawing leaves these lines out, and says so."""
_PLACES = {
    "created": (0, 1),
    "download_submitted": (1, 1),
    "job_submitting": (2, 1),
    "job_submitted": (3, 1),
    "upload_submitting": (4, 0),
    "upload_submitted": (5, 0),
    "complete": (6, 0),
    "error_processing_submitting": (4, 2),
    "error_processing_submitted": (5, 2),
    "error": (6, 2),
    "canceling": (5, 1),
    "canceled": (6, 1),
}
"""Column and row of each state in the drawing."""
_ARROWHEAD = (
    '<defs><marker id="cts-arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    '<path d="M0 0 8 4 0 8z"/></marker></defs>'
)
_COLUMN, _ROW, _WIDTH, _HEIGHT, _MARGIN = 152, 84, 128, 44, 8


def describe() -> str:
    """Return every state: the words it is shown by, and what may follow."""
    return table(
        ["state", "shown as", "may be followed by"],
        (
            [
                code(state.value),
                escape(STATE_WORDS[state]),
                "nothing: the job has ended"
                if state in TERMINAL
                else ", ".join(code(s.value) for s in JobState if may_follow(state, s)),
            ]
            for state in JobState
        ),
    )


def draw() -> str:
    """Return the states as a drawing that needs no script."""
    width, height = 7 * _COLUMN - (_COLUMN - _WIDTH) + 2 * _MARGIN, 2 * _ROW + _HEIGHT + 2 * _MARGIN
    return "\n".join(
        [
            "```{raw} html",
            '<div class="cts-states">',
            f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="The states of a job and their order">',
            _ARROWHEAD,
            *_arrows(),
            *_boxes(),
            "</svg>",
            "</div>",
            "```",
        ]
    )


def _boxes() -> Iterator[str]:
    for state in JobState:
        x, y = _corner(state)
        kind = "end" if state in TERMINAL else "step"
        lines = _wrap(state.value)
        yield f'<g class="{kind}"><rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="8"/>'
        for number, line in enumerate(lines):
            at = y + _HEIGHT / 2 + (number - (len(lines) - 1) / 2) * 15 + 4
            yield f'<text x="{x + _WIDTH / 2}" y="{at}">{line}</text>'
        yield "</g>"


def _arrows() -> Iterator[str]:
    for state in JobState:
        for other in JobState:
            # The last step of the error branch has no other way on than the end.
            is_drawn = other not in _FROM_ANYWHERE or state is JobState.ERROR_PROCESSING_SUBMITTED
            if other is JobState.CANCELING or not (is_drawn and may_follow(state, other)):
                continue
            (x, y), (to_x, to_y) = _corner(state), _corner(other)
            yield (
                f'<path class="arrow" d="M{x + _WIDTH} {y + _HEIGHT / 2} L{to_x - 1} {to_y + _HEIGHT / 2}" '
                'marker-end="url(#cts-arrow)"/>'
            )


def _corner(state: JobState) -> tuple[int, int]:
    column, row = _PLACES[state.value]
    return _MARGIN + column * _COLUMN, _MARGIN + row * _ROW


def _wrap(name: str) -> list[str]:
    """Return a state's name in lines that fit its box."""
    first, _, rest = name.rpartition("_")
    return [f"{first}_", rest] if len(name) > len("job_submitting") and first else [name]
