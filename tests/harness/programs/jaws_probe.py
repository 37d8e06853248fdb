#!/usr/bin/python3
"""The program of the vectors' containers: writes down what it sees, and some outputs."""

import json
import os
import sys
from pathlib import Path

OUTSIDE = {"SEEN", "MOUNTS", "PATH", "PWD", "SHLVL", "_", "LC_CTYPE"}
"""Variables that are not the job's."""


def read(folder):
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


inputs, outputs, *refdata = (Path(mount) for mount in os.environ["MOUNTS"].split(":"))
for name in ("plain.txt", "sub dir/it's $x.txt", "empty"):
    (outputs / name).parent.mkdir(exist_ok=True)
    (outputs / name).write_text("" if name == "empty" else "text")
seen = {
    "argv": sys.argv,
    "env": {key: value for key, value in os.environ.items() if key not in OUTSIDE},
    "inputs": read(inputs),
    "refdata": read(refdata[0]) if refdata else None,
    "stdin": sys.stdin.read(),
}
Path(os.environ["SEEN"]).write_text(json.dumps(seen))
print("probe says hello")
sys.exit(int(os.environ.get("CODE", "0")))
