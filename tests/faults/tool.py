#!/usr/bin/env python3
"""The container of the fault tests: notes that it ran, works a moment, writes an output or fails."""

import os
import sys
import time
from pathlib import Path

number = os.environ["NUMBER"]
line = f"{os.environ['CTS_CONTAINER']}\n".encode()
ran = os.open(os.environ["RAN"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
os.write(ran, line)
os.close(ran)
time.sleep(float(os.environ.get("WORK", "0.1")))
if os.environ.get("FAIL") == number:
    sys.exit(3)
Path(sys.argv[1], f"out-{number}.txt").write_text(number)
