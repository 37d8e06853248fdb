"""``python -m cts_jupyter.server.probe``: asks this machine's server whether it is alive, as a container's health check.

The server's own file says at which port and path it is, so that the check need not know the settings.
"""

from __future__ import annotations

import json
import ssl
import sys
from pathlib import Path
from urllib.request import HTTPSHandler, ProxyHandler, build_opener

from jupyter_core.paths import jupyter_runtime_dir

SECONDS = 5.0
"""How long the server may take to answer."""


def health_url(folder: Path) -> str:
    """Return the URL of ``/health`` of the server that started last in this runtime folder.

    Raises OSError without one, and ValueError or KeyError while its file is being written.
    """
    files = sorted(folder.glob("jpserver-*.json"), key=lambda file: file.stat().st_mtime)
    if not files:
        raise FileNotFoundError(f"no server has started: there is none in {folder}")
    server = json.loads(files[-1].read_text())
    scheme = "https" if server["secure"] else "http"
    return f"{scheme}://127.0.0.1:{server['port']}{server['base_url']}cts/health"


def main() -> int:
    """Return 0 if the server answers that it is alive."""
    # Its certificate is made out for another name than this machine's own.
    context = ssl._create_unverified_context()  # noqa: S323, SLF001 - see above
    # Container engines pass on the proxies of their machine, which cannot reach the container's own address.
    opener = build_opener(ProxyHandler({}), HTTPSHandler(context=context))
    try:
        with opener.open(health_url(Path(jupyter_runtime_dir())), timeout=SECONDS):
            return 0
    except (OSError, ValueError, KeyError) as e:
        print(e, file=sys.stderr)  # noqa: T201 - the container engine keeps it
        return 1


if __name__ == "__main__":
    sys.exit(main())
