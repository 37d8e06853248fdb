"""The service as operators run it, every dependency real but for auth2, with something in it to ask for."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.services.cts import CTSProcess
from tests.services.together import ADMIN_ROLES, Together

TOOL = Path(__file__).parents[1] / "jupyter" / "tool.py"
ROLES = ("CTS_EXTERNAL_EXECUTOR", "CTS_REFDATA_SERVICE")
"""Those of who works for the sites."""
JOB_SECONDS = 120
UNLIMITED = 1_000_000


@dataclass
class FullService:
    """Where it is, and what it knows."""

    root: str
    token: str
    """Of somebody with every role."""
    log: Path
    known: dict[str, list[Any]] = field(default_factory=dict)
    """What exists, and what can be asked of a job, by what it is."""

    def client(self) -> httpx.Client:
        return httpx.Client(
            base_url=self.root, headers={"Authorization": f"Bearer {self.token}"}, timeout=60
        )

    def fill(self) -> None:
        """Jobs that ended well and badly, an image, files, reference data."""
        with self.client() as http:
            for name in ("tool", "spare"):
                _post(http, f"/admin/images/host/{name}", {"executable": str(TOOL)})
            paths = [f"data/eve/in/{name}" for name in "abcdefgh"] + ["data/eve/ref.txt"]
            for path in paths:
                put = http.put("/files/content", params={"path": path}, content=path.encode())
                put.raise_for_status()
            jobs = [_post(http, "/jobs", _submission(args))["job_id"] for args in (None, ["none"])]
            refdata = _post(http, "/admin/refdata/data/eve/ref.txt", None)["id"]
            for job in jobs:
                _wait(http, job)
        self.known = {
            "jobs": jobs,
            "images": ["host/tool"],
            "spares": ["host/spare"],
            "programs": [str(TOOL)],
            "paths": paths,
            "refdata": [refdata],
            "folders": ["data/eve/out", "data/eve/"],
            "sites": ["local"],
            "ones": [1],
            "sizes": ["20MB", 20_000_000],
            "durations": ["PT1M", "PT1S"],
        }


def _post(http: httpx.Client, path: str, body: Any) -> Any:
    answer = http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def _submission(args: list[str] | None) -> dict[str, Any]:
    files = [{"type": "input_files", "input_files_format": "space_separated_list"}]
    params = {"args": args or files, "environment": {"OUT": "/output_files"}}
    return {
        "cluster": "local",
        "image": "host/tool",
        "params": params,
        "output_dir": f"data/eve/out/{uuid.uuid4()}",
        "input_files": ["data/eve/in/a", "data/eve/in/b"],
        "num_containers": 2,
    }


def _wait(http: httpx.Client, job: str) -> None:
    deadline = time.monotonic() + JOB_SECONDS
    while (state := http.get(f"/jobs/{job}/status").json()["state"]) not in ("complete", "error"):
        assert time.monotonic() < deadline, state
        time.sleep(0.1)


@contextmanager
def full_service(servers: Together) -> Iterator[FullService]:
    """A process of ``jupyter cts`` on these servers, with something in it."""
    environ = servers.environ() | {
        "CTS_LIMITS__SUBMISSIONS_PER_MIN": str(UNLIMITED),
        "CTS_LIMITS__CHECKS_PER_MIN": str(UNLIMITED),
    }
    servers.s3.empty()
    process = CTSProcess(servers.folder / "openapi", environ)
    process.start()
    try:
        service = FullService(
            process.url, servers.auth.add("eve", *ADMIN_ROLES, *ROLES), process.log
        )
        service.fill()
        yield service
    finally:
        process.stop()
        with servers.mongo.client() as client:
            client.drop_database(environ["CTS_MONGO__DB"])
        servers.kafka.delete_topic(environ["CTS_KAFKA__TOPIC"])
