"""Starts the fork server. Isolated, so that neither the environment nor the folder changes what is imported.

Usage: ``python -I -S __main__.py CHECKSUM_LIBRARY SOCKET_FD``.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path.append(sys.argv[1])

from cts_core.worker.forkserver import serve  # the path had to be set first

serve(int(sys.argv[2]))
