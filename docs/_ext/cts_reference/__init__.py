"""A Sphinx extension that writes the reference pages from the code.

A page asks for generated text by a fenced block, whose content tells readers of the bare file where the text comes from::

    ```{generated} settings
    ...
    ```

The block is replaced by Markdown before the page is parsed, so that headings and links in it are the page's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from cts_reference import (
    command_line,
    errors,
    magics,
    metrics,
    notebook,
    performance,
    python_api,
    rest_api,
    root_pages,
    settings,
    states,
)

if TYPE_CHECKING:
    from sphinx.application import Sphinx

GENERATORS: Mapping[str, Callable[[], str]] = {
    "changelog": root_pages.describe_changelog,
    "cli": command_line.describe_cts,
    "contributing": root_pages.describe_contributing,
    "errors": errors.describe,
    "jupyter-cts": command_line.describe_jupyter_cts,
    "magics": magics.describe,
    "metrics": metrics.describe,
    "performance": performance.describe,
    "presets": settings.describe_presets,
    "python-api": python_api.describe,
    "refdata-service-api": rest_api.describe_refdata_service,
    "rest-api": rest_api.describe_service,
    "security-policy": root_pages.describe_security_policy,
    "settings": settings.describe,
    "states": states.describe,
    "state-diagram": states.draw,
    **notebook.describers(),
}
"""The functions that write Markdown, by the name that a page asks for."""

_BLOCK = re.compile(r"^```\{generated\} (?P<name>[\w-]+)\n(?:(?!```).*\n)*```$", re.MULTILINE)


def replace_blocks(text: str) -> str:
    """Return a page's text with its ``{generated}`` blocks replaced.

    Raises:
        KeyError: a block names no generator.
    """
    return _BLOCK.sub(lambda block: GENERATORS[block["name"]]().strip(), text)


def _on_source_read(_app: Sphinx, _page: str, source: list[str]) -> None:
    source[0] = replace_blocks(source[0])


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension, as Sphinx asks it to."""
    app.connect("source-read", _on_source_read)
    app.connect("autodoc-process-signature", python_api.hide_constructor)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
