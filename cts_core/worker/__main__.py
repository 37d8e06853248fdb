"""Starts the worker with as few imports as can be, since every container pays for them.

Usage: ``python -I -S __main__.py FOLDER CHECKSUM_LIBRARY [NUDGE_FD]``.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path.append(sys.argv[2])

from cts_core.worker.run import main  # noqa: E402 - the path had to be set first

main(sys.argv[1], int(sys.argv[3]) if len(sys.argv) > 3 else None)
