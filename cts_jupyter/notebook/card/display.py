"""The displays of one job's card in a notebook, which the kernel updates."""

from __future__ import annotations

import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable, Mapping

from IPython.core.getipython import get_ipython
from IPython.display import display, update_display

from cts_jupyter.client.transport import CTSClientError
from cts_jupyter.notebook.card.card import MIME_TYPE, card_html, card_reference, card_text
from cts_jupyter.notebook.card.data import CardData
from cts_jupyter.notebook.throttle import Throttle

log = logging.getLogger(__name__)

_MAX_DISPLAYS = 20
"""The number of displays that are updated; older ones stay as they are."""


class CardDisplay:
    """Shows a card, and updates all its displays at most once a second."""

    def __init__(self, card: Callable[[], CardData]) -> None:
        """``card`` requests the job from the service, and may raise CTSClientError."""
        # A terminal would print an update as another output, wherever the cursor is.
        self.can_update = hasattr(get_ipython(), "kernel")
        self._card = card
        self._lock = threading.Lock()
        self._display_ids: deque[str] = deque(maxlen=_MAX_DISPLAYS)
        self._is_live = False
        self._throttle = Throttle(self._update)
        self._shown_in: int | None = None

    def show(self, *, is_live: bool, is_result_too: bool) -> CardData | None:
        """Show the card in a new display, and return its facts. Raises CTSClientError.

        With ``is_result_too`` the cell that runs now may also have the job as its result: then the card is not shown
        a second time, and the second call returns None.
        """
        shell = get_ipython()
        cell = shell.execution_count if shell is not None else None
        if cell is not None and cell == self._shown_in and not is_result_too:
            self._shown_in = None
            return None
        self._shown_in = cell if is_result_too else None
        self._is_live = is_live
        display_id = f"cts-card-{uuid.uuid4()}"
        card = self._card()
        bundle = self._bundle(card)
        if shell is None:
            print(bundle["text/plain"])  # noqa: T201 - plain Python has no other display
            return card
        display(bundle, raw=True, display_id=display_id)  # type: ignore[no-untyped-call]  # IPython's
        with self._lock:
            if self.can_update:
                self._display_ids.append(display_id)
        self._throttle.note_done()
        return card

    def _bundle(self, card: CardData) -> Mapping[str, object]:
        bundle: dict[str, object] = {"text/plain": card_text(card), "text/html": card_html(card)}
        if self._is_live:
            bundle[MIME_TYPE] = card_reference(card)
        return bundle

    def update_soon(self) -> None:
        """Update all displays now, or as soon as a second has passed since the last update."""
        with self._lock:
            if not self._display_ids:
                return
        self._throttle.soon()

    def update_now(self) -> None:
        """Update all displays now, for the last time."""
        self._throttle.now()

    def _update(self) -> None:
        with self._lock:
            display_ids = list(self._display_ids)
        if not display_ids:
            return
        try:
            card = self._card()
        except CTSClientError as e:
            # The card stays as it is; the next change tries again.
            log.info("A card cannot be updated now: %s", e)
            return
        for display_id in display_ids:
            update_display(self._bundle(card), raw=True, display_id=display_id)  # type: ignore[no-untyped-call]  # IPython's
