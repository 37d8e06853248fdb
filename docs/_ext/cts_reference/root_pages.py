"""Pages that lie in the root of the repository, where people look for them first, as pages of the site too."""

from __future__ import annotations

import re

from cts_reference.paths import ROOT

_PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security-policy.md",
}
"""The files, and the page in ``docs/project/`` that shows each."""
_LINK = re.compile(r"\]\((?![a-z]+:|#)(?P<path>[^)\s#]+)")


def describe_changelog() -> str:
    """Return what changed, by release."""
    return describe("CHANGELOG.md")


def describe_contributing() -> str:
    """Return how to take part."""
    return describe("CONTRIBUTING.md")


def describe_security_policy() -> str:
    """Return how to report a vulnerability."""
    return describe("SECURITY.md")


def describe(name: str) -> str:
    """Return a file without its title, its links leading to the same places from ``docs/project/``."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return _LINK.sub(lambda link: f"]({_move(link['path'])}", text.partition("\n")[2])


def _move(path: str) -> str:
    if path in _PAGES:
        return _PAGES[path]
    return f"../{path.removeprefix('docs/')}" if path.startswith("docs/") else f"../../{path}"
