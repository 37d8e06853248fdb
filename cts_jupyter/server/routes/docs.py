"""The route of the API docs page: one document, which renders ``openapi.json`` and requests nothing else.

Script and style are inline and allowed by their hashes in the Content-Security-Policy, so that nothing else can run in
the page: the same origin, Jupyter's, also serves files that users have written.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from importlib.resources import files

from cts_jupyter.server.http.call import Call, Stream
from cts_jupyter.server.http.route import Access, Route

HTML = "text/html; charset=utf-8"
_FOLDER = files("cts_jupyter") / "server" / "docs_page"
_SCRIPTS = ("schema.js", "request.js", "docs.js")
"""The parts of one JavaScript module, in this order."""


async def get_docs(call: Call) -> Stream:  # noqa: ARG001 - every handler has a call
    """``GET /docs``."""
    page, headers = _compose()
    return Stream.of(page, HTML, headers)


@functools.cache
def _compose() -> tuple[bytes, dict[str, str]]:
    style = _read("docs.css")
    script = "\n".join(map(_read, _SCRIPTS))
    page = _read("docs.html").replace("/* style */", style).replace("/* script */", script).encode()
    policy = {
        "default-src": "'none'",
        "script-src": _hash(script),
        "style-src": _hash(style),
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    return page, {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "ETag": f'"{hashlib.sha256(page).hexdigest()[:32]}"',
        "Cache-Control": "no-cache",
        # Values typed into the page must not reach other sites by the Referer header.
        "Referrer-Policy": "no-referrer",
    }


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


ROUTES = (Route("GET", "/docs", get_docs, Access.ANYONE, "This description as a page", media=HTML),)
