#!/usr/bin/env python3
"""Write the arguments, the environment variables ``T_*`` and the named files' content as JSON to the output file.

``OUT`` names the output file below the folder ``OUTPUTS``, ``WORK`` the seconds to take, ``FAIL`` an exit code;
with ``NOTHING`` it writes no output.
"""

import json
import os
import sys
import time
from pathlib import Path

out = Path(os.environ.get("OUTPUTS", "."), os.environ.get("OUT", "called.json"))
out.parent.mkdir(parents=True, exist_ok=True)
print("tool: start", flush=True)
print("tool: to stderr", file=sys.stderr, flush=True)
time.sleep(float(os.environ.get("WORK", "0")))
environment = {name: value for name, value in os.environ.items() if name.startswith("T_")}
if "NOTHING" not in os.environ:
    read = {word: Path(word).read_text() for word in sys.argv[1:] if Path(word).is_file()}
    read |= {
        part: Path(part).read_text()
        for word in sys.argv[1:]
        for part in word.split(",")[1:] + word.split(",")[:1]
        if Path(part).is_file()
    }
    out.write_text(json.dumps({"argv": sys.argv[1:], "environment": environment, "read": read}))
sys.exit(int(os.environ.get("FAIL", "0")))
