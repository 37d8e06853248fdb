"""What is imported with what: the engine without Jupyter, a kernel without the engine."""

from __future__ import annotations

import subprocess
import sys

import pytest

FOREIGN = (
    "jupyter",
    "jupyter_server",
    "jupyter_core",
    "tornado",
    "IPython",
    "traitlets",
    "boto3",
    "botocore",
    "pymongo",
    "kafka",
    "htcondor2",
    "sfapi_client",
    "httpx",
)


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("cts_core", (*FOREIGN, "pydantic", "awscrt")),
        ("cts_core.engine.engine", FOREIGN),
        ("cts_core.config.load", (*FOREIGN, "awscrt")),
        ("cts_jupyter", ("jupyter_server", "tornado", "IPython", "httpx")),
        ("cts_jupyter.client", ("jupyter_server", "tornado", "IPython", "cts_core.engine")),
        ("cts_jupyter.server.extension", ("cts_core.engine", "IPython.core")),
    ],
)
def test_import_stays_small(module: str, unwanted: tuple[str, ...]) -> None:
    program = f"import sys, {module}; print('\\n'.join(sys.modules))"
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = printed.stdout.split()
    assert [name for name in loaded if name in unwanted or name.partition(".")[0] in unwanted] == []
