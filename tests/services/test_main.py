"""What ``make services`` prints works when it is pasted into a shell that knows nothing of this checkout."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services import kafka, minio, mongo
from tests.services.__main__ import instructions
from tests.services.server import free_port, or_skip
from tests.services.together import ServiceStack, started_stack

SECONDS = 150
pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * SECONDS)]


@pytest.fixture
def services() -> Iterator[ServiceStack]:
    with or_skip():
        for service in (mongo, kafka, minio):
            service.install()
    with tempfile.TemporaryDirectory(prefix="cts-services-") as folder:
        # PostgreSQL runs as another user, who must be able to enter the folder.
        Path(folder).chmod(0o755)
        with started_stack(Path(folder)) as services:
            yield services


def test_the_printed_lines_start_a_service(services: ServiceStack, tmp_path: Path) -> None:
    pasted = instructions(services, free_port())
    # As the first service ends: the service is drained by kill %1, with status 0. The trap is for a line that fails.
    script = f"set -em\ntrap 'kill %1' EXIT\n{pasted}\necho; cts config check >&2\ntrap - EXIT\nkill %1; wait %1\n"
    environ = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        ["bash", "-s"],
        input=script,
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers = json.JSONDecoder()
    who, end = answers.raw_decode(done.stdout)
    ready, _ = answers.raw_decode(done.stdout[end:].lstrip())
    assert who["user"] == "ana"
    needed = {one["name"]: one["state"] for one in ready["dependencies"] if one["needed"]}
    assert set(needed.values()) == {"up"}, ready
