"""What the pages of a browser say went wrong in our code."""

from __future__ import annotations

import re

from playwright.sync_api import BrowserContext, ConsoleMessage, WebError

OURS = re.compile(r"/extensions/cts-jupyter/|/cts/|\bcts[-_:]|blob:http", re.IGNORECASE)
"""What stands in the addresses, stacks and names of our code: the extension, its plugins and commands, the pages and answers of
the service, and a widget, which anywidget loads. JupyterLab and ipywidgets have errors of their own, as when a server is away,
or a notebook closes while it starts."""
UNANSWERED = re.compile(r"Failed to load resource: ")


class Faults:
    """Errors of our code in all pages of some contexts: what was thrown and not caught, and what was written to the console."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.allows_unanswered = False

    def begin(self) -> None:
        """Forget what was before."""
        self.found.clear()
        self.allows_unanswered = False

    def watch(self, context: BrowserContext) -> None:
        context.on("console", self._note_line)
        context.on("weberror", self._note_error)

    def _note_line(self, line: ConsoleMessage) -> None:
        if line.type != "error" or (self.allows_unanswered and UNANSWERED.match(line.text)):
            return
        self._note(f"{line.text} {line.location['url']}")

    def _note_error(self, error: WebError) -> None:
        self._note(error.error.stack or error.error.message)

    def _note(self, text: str) -> None:
        if OURS.search(text):
            self.found.append(text)
