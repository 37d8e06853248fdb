#!/usr/bin/python3
"""A file transfer plugin that fetches http URLs: Debian's own one crashes with "free(): invalid pointer".

Runs in the pool's folder, by HTCondor's protocol for plugins that fetch several files at once.
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
    """Fetch one file; return the ClassAd that reports the result."""
    ad = f'TransferUrl = "{url}"; TransferFileName = "{name}"; TransferProtocol = "http"; '
    try:
        with urllib.request.urlopen(url, timeout=20) as response:
            Path(name).write_bytes(response.read())
    except (OSError, http.client.HTTPException) as e:
        error = str(e).replace('"', "'")
        return f'[ {ad} TransferSuccess = false; TransferError = "{error}"; ]\n'
    return f"[ {ad} TransferSuccess = true; ]\n"


def main() -> int:
    """Fetch all requested files; return 0 if every one was fetched."""
    if "-classad" in sys.argv:
        print(ABOUT, end="")
        return 0
    infile, outfile = (Path(sys.argv[sys.argv.index(name) + 1]) for name in ("-infile", "-outfile"))
    source = infile.read_text()
    values = [re.findall(rf'{key}\s*=\s*"(.*?)"', source) for key in ("Url", "LocalFileName")]
    ads = [fetch(url, name) for url, name in zip(*values, strict=True)]
    outfile.write_text("".join(ads))
    return int(any("TransferSuccess = false" in ad for ad in ads))


if __name__ == "__main__":
    sys.exit(main())
