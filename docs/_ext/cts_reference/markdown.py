"""The Markdown that the generators share: escaping, tables, directives."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

_CODE = re.compile(r"(`+[^`]+`+)")
_SPECIAL = re.compile(r"([\\*_<>\[\]{}|$#])")


def escape(text: str) -> str:
    """Return a plain text as Markdown of one line, leaving code in backticks as it is."""
    parts = _CODE.split(" ".join(text.split()))
    return "".join(
        part if number % 2 else _SPECIAL.sub(r"\\\1", part) for number, part in enumerate(parts)
    )


def code(text: str) -> str:
    """Return a text as code, also where it holds backticks or stands in a table."""
    fence = "``" if "`" in text else "`"
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; the cells are Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "| "
        + " | ".join(cell.replace("|", "\\|") if "\\|" not in cell else cell for cell in line)
        + " |"
        for line in lines
    )


def directive(
    name: str, argument: str = "", body: str = "", options: Mapping[str, str] | None = None
) -> str:
    """Return a directive of MyST, fenced by colons so that code may stand in it."""
    lines = [f":::{{{name}}} {argument}".rstrip()]
    lines += [f":{option}: {value}" for option, value in (options or {}).items() if value]
    return "\n".join([*lines, "", body.strip(), ":::"] if body.strip() else [*lines, ":::"])


def fenced(text: str, language: str = "text") -> str:
    """Return a block of code."""
    return f"```{language}\n{text.rstrip()}\n```"


def blocks(*parts: str) -> str:
    """Return paragraphs, headings and other blocks below each other, leaving out empty ones."""
    return "\n\n".join(part for part in parts if part) + "\n"
