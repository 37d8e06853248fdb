#!/usr/bin/python3
"""Fetches http URLs for the tests' pool: Debian's own plugin of HTCondor ends with "free(): invalid pointer".

Runs in the pool's folder, by HTCondor's protocol for plugins that take several files at once.
"""

import http.client
import re
import sys
import urllib.request
from pathlib import Path

ABOUT = """\
MultipleFileSupport = true
PluginVersion = "1"
PluginType = "FileTransfer"
SupportedMethods = "http"
"""


def fetch(url: str, name: str) -> str:
    """Fetch one file; returns what is to be told of it."""
    told = f'TransferUrl = "{url}"; TransferFileName = "{name}"; TransferProtocol = "http"; '
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            Path(name).write_bytes(answer.read())
    except (OSError, http.client.HTTPException) as e:
        error = str(e).replace('"', "'")
        return f'[ {told} TransferSuccess = false; TransferError = "{error}"; ]\n'
    return f"[ {told} TransferSuccess = true; ]\n"


def main() -> int:
    """Returns 0 when every file was fetched."""
    if "-classad" in sys.argv:
        print(ABOUT, end="")
        return 0
    given, told = (Path(sys.argv[sys.argv.index(name) + 1]) for name in ("-infile", "-outfile"))
    source = given.read_text()
    values = [re.findall(rf'{key}\s*=\s*"(.*?)"', source) for key in ("Url", "LocalFileName")]
    ads = [fetch(url, name) for url, name in zip(*values, strict=True)]
    told.write_text("".join(ads))
    return int(any("TransferSuccess = false" in ad for ad in ads))


if __name__ == "__main__":
    sys.exit(main())
