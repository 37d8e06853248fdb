#!/usr/bin/env python3
"""Copy every input file to the folder ``OUT``, after ``WORK`` seconds."""

import os
import sys
import time
from pathlib import Path

out = Path(os.environ.get("OUT", "/output_files"))
print("tool: working on", *sys.argv[1:], flush=True)
print("tool: nothing to complain of", file=sys.stderr, flush=True)
time.sleep(float(os.environ.get("WORK", "0")))
for name in sys.argv[1:]:
    (out / f"{Path(name).name}.out").write_bytes(Path(name).read_bytes())
