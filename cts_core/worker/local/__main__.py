"""Starts the fork server, isolated: neither the environment nor the working folder changes what is imported.

Usage: ``python -I -S __main__.py CHECKSUM_LIBRARY SOCKET_FD``, with S3Keys as JSON on stdin, if there are any. The keys
are in no argument, environment variable or file, where other processes could read them.
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
