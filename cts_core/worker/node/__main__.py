"""Starts the worker on a node, isolated: neither the environment nor the working folder changes what is imported."""

import os
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", "..")))

from cts_core.worker.node.main import main  # the path had to be set first

sys.exit(main(os.environ))
