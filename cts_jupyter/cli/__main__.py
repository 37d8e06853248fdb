"""``python -m cts_jupyter.cli``."""

import sys

from cts_jupyter.cli.main import main

sys.exit(main())
