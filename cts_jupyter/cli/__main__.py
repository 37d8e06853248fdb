"""``python -m cts_jupyter.command``."""

import sys

from cts_jupyter.command.main import main

sys.exit(main())
