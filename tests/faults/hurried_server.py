"""``jupyter cts`` as the fault tests at JAWS start it: what its sites wait for comes soon."""

from __future__ import annotations

import pytest

from cts_jupyter.server.headless import main
from tests.harness.jaws_hurry import hurry

if __name__ == "__main__":
    hurry(pytest.MonkeyPatch())
    main()
