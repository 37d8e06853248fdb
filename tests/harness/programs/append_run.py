#!/usr/bin/env python3
"""Append the container's name to the file ``RAN``, sleep ``WORK`` seconds, write an output or fail.

The container whose number is ``FAIL`` exits with 3.
"""

import os
import sys
import time
from pathlib import Path

number = os.environ["NUMBER"]
line = f"{os.environ['CTS_CONTAINER']}\n".encode()
runs = os.open(os.environ["RAN"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
os.write(runs, line)
os.close(runs)
time.sleep(float(os.environ.get("WORK", "0.1")))
if os.environ.get("FAIL") == number:
    sys.exit(3)
Path(sys.argv[1], f"out-{number}.txt").write_text(number)
