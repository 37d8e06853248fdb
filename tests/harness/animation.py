"""An animation of what a page shows, step by step."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

COLORS = 64
WAIT_MS = 250
"""Milliseconds between two looks at a page that changes."""


class Animation:
    """Takes pictures of a page, and writes them as a GIF."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._frames: list[Image.Image] = []
        self._durations: list[int] = []

    def take(self, duration_ms: int) -> None:
        """Take a picture that is shown for so long."""
        picture = Image.open(BytesIO(self._page.screenshot()))
        self._frames.append(picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=COLORS))
        self._durations.append(duration_ms)

    def watch(self, duration_ms: int) -> None:
        """Take pictures of what changes by itself, for so long."""
        for _ in range(duration_ms // WAIT_MS):
            self.take(WAIT_MS)
            self._page.wait_for_timeout(WAIT_MS)

    def save(self, file: Path) -> None:
        """Write the GIF, which begins again at its end."""
        file.parent.mkdir(parents=True, exist_ok=True)
        first, *others = self._frames
        first.save(
            file, save_all=True, append_images=others, duration=self._durations, loop=0, optimize=True
        )  # fmt: skip
