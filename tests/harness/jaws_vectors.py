"""What the deployed service's own code made, against a stand-in of NERSC and JAWS."""

from __future__ import annotations

import json
from typing import Any

from cts_core.sites.jaws.layout import Layout, Machine
from tests.harness.paths import VECTORS

JOB_ID = "11111111-0000-4000-8000-000000000001"
REFDATA_ID = "33333333-0000-4000-8000-000000000001"
LAYOUT = Layout(
    group="prod",
    user="cdm_ts",
    scratch={
        Machine.DTNS: "/global/pscratch/sd/c/cdm_ts",
        Machine.PERLMUTTER: "/pscratch/sd/c/cdm_ts",
    },
    staging={
        Machine.DTNS: "/global/pscratch/sd/k/kbjaws/kbase-prod/",
        Machine.PERLMUTTER: "/pscratch/sd/k/kbjaws/kbase-prod/",
    },
    refdata_root="/global/dna/kbase/reference/jaws",
    code_root="/global/cfs/cdirs/kbase/cdm_task_service",
)


def load(name: str) -> dict[str, Any]:
    """Return the vectors of this name."""
    return json.loads((VECTORS / "jaws" / f"{name}.json").read_text())


LEFT, RESULTS, RUNS = load("left_at_nersc"), load("results"), load("runs")
