"""Starts the fork server. Isolated, so that neither the environment nor the folder changes what is imported.

Usage: ``python -I -S __main__.py CHECKSUM_LIBRARY SOCKET_FD``, with S3Keys as JSON on stdin, if there are any: what
is neither an argument, nor in the environment, nor on a disk, nobody finds there.
"""

import json
import os
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", "..")))
sys.path.append(sys.argv[1])

from cts_core.worker.local.forkserver import serve  # the path had to be set first
from cts_core.worker.s3.credentials import S3Keys

given = sys.stdin.read()
serve(int(sys.argv[2]), S3Keys(**json.loads(given)) if given else None)
