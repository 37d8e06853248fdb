"""The preset ``service`` whole: real MongoDB, S3, Kafka, KBase's auth, and ``jupyter cts`` as processes of their own."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from cts_core.worker.checksum import crc64nvme_text
from tests.harness.factories import TO_COMPLETE
from tests.harness.paths import COPY_INPUTS
from tests.services.cts import CTSProcess
from tests.services.mongo import PASSWORD
from tests.services.s3 import SECRET
from tests.services.together import ADMIN_ROLES, ServiceStack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PATIENCE_SECONDS = 90.0
FILES = {f"data/ana/in/{name}.fa": f">{name}\nACGT\n".encode() for name in "abc"}

BODY = {
    "cluster": "local",
    "image": "host/tool",
    "params": {
        "args": [{"type": "input_files", "input_files_format": "space_separated_list"}],
        "environment": {"OUT": "/output_files"},
    },
    "input_files": sorted(FILES),
    "num_containers": 2,
    "memory": "200MB",
    "runtime": 60,
    "output_dir": "data/ana/out",
}


class Stream(threading.Thread):
    """A subscriber to one user's events, who keeps what it is told."""

    def __init__(self, url: str, token: str) -> None:
        super().__init__(daemon=True)
        self._url = f"{url}/events"
        self._headers = {"Authorization": f"Bearer {token}"}
        self.events: list[dict[str, Any]] = []
        self.is_open = threading.Event()

    def run(self) -> None:
        # It ends with its server.
        with (
            contextlib.suppress(httpx.HTTPError),
            httpx.stream("GET", self._url, headers=self._headers, timeout=60) as answer,
        ):
            name = ""
            for line in answer.iter_lines():
                field, _, value = line.partition(": ")
                if field == "event":
                    name = value
                    self.is_open.set()
                elif field == "data" and name == "transition":
                    self.events.append(json.loads(value))

    def states(self, job_id: str) -> list[str]:
        return [event["state"] for event in self.events if event["job_id"] == job_id]


@dataclass(frozen=True)
class Service:
    """Two servers of one service."""

    services: ServiceStack
    environ: Mapping[str, str]
    servers: list[CTSProcess]

    def transitions(self, job_id: str) -> list[dict[str, Any]]:
        """A job's, as they stand in the database."""
        with self.services.mongo.client() as client:
            found = client[self.environ["CTS_MONGO__DB"]]["jobs"].find_one({"id": job_id})
        return found["transition_times"]

    def messages(self, job_id: str) -> list[dict[str, Any]]:
        """A job's, in the order in which they came, without copies."""
        found = {}
        for message in self.services.kafka.messages(self.environ["CTS_KAFKA__TOPIC"]):
            if message.key == job_id.encode():
                told = json.loads(message.value)
                found.setdefault(told["trans_id"], told)
        return list(found.values())


@pytest.fixture
def service(mongo, minio, kafka_server, kbase_auth, tmp_path) -> Iterator[Service]:
    minio.empty()
    services = ServiceStack(tmp_path, mongo, kafka_server, minio, kbase_auth)
    environ = services.environ()
    servers = [CTSProcess(tmp_path / f"server-{n}", environ) for n in range(2)]
    try:
        for server in servers:
            server.start()
        yield Service(services, environ, servers)
    finally:
        for server in servers:
            server.stop()
        with mongo.client() as client:
            client.drop_database(environ["CTS_MONGO__DB"])
        kafka_server.delete_topic(environ["CTS_KAFKA__TOPIC"])


def eventually(condition: Callable[[], Any], told: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, told()
        time.sleep(0.1)


def place(path: str) -> dict[str, str]:
    bucket, _, key = path.partition("/")
    return {"Bucket": bucket, "Key": key}


def call(method: str, url: str, token: str, **given: Any) -> Any:
    headers = {"Authorization": f"Bearer {token}", **given.pop("headers", {})}
    answer = httpx.request(method, url, headers=headers, timeout=60, **given)
    assert answer.is_success, answer.text
    return answer.json() if answer.content else None


def test_a_users_job_from_submission_to_checksummed_outputs(service: Service) -> None:
    auth, s3 = service.services.auth, service.services.s3
    one, other = (server.url for server in service.servers)
    admin, ana, bob = auth.add("admin", *ADMIN_ROLES), auth.add("ana"), auth.add("bob")
    call("POST", f"{one}/admin/images/host/tool", admin, json={"executable": str(COPY_INPUTS)})
    with contextlib.closing(s3.client()) as client:
        for path, content in FILES.items():
            crc = crc64nvme_text(content)
            client.put_object(**place(path), Body=content, ChecksumCRC64NVME=crc)
    streams = [Stream(url, ana) for url in (one, other)]
    for stream in streams:
        stream.start()
        assert stream.is_open.wait(PATIENCE_SECONDS)

    key = {"Idempotency-Key": "once"}
    job_id = call("POST", f"{one}/jobs", ana, json=BODY, headers=key)["job_id"]
    assert call("POST", f"{other}/jobs", ana, json=BODY, headers=key) == {"job_id": job_id}
    eventually(
        lambda: all("complete" in stream.states(job_id) for stream in streams),
        lambda: call("GET", f"{one}/jobs/{job_id}", ana),
    )
    job = call("GET", f"{other}/jobs/{job_id}", ana)
    assert [step["state"] for step in job["transition_times"]] == TO_COMPLETE

    # What came out is on S3, with the checksums that the job tells.
    with contextlib.closing(s3.client()) as client:
        stored = {}
        for output in job["outputs"]:
            found = client.get_object(**place(output["file"]), ChecksumMode="ENABLED")
            content = stored[output["file"]] = found["Body"].read()
            assert found["ChecksumCRC64NVME"] == output["crc64nvme"] == crc64nvme_text(content)
        log = client.get_object(**place(f"{job['logpath']}/container-0-stdout.txt"))
        assert log["Body"].read().startswith(b"tool: working on")
    assert stored == {
        f"data/ana/out/{Path(path).name}.out": content for path, content in FILES.items()
    }

    # Both servers' subscribers and Kafka were told each transition, in their order.
    eventually(
        lambda: all(step["notif_sent"] for step in service.transitions(job_id)),
        lambda: service.transitions(job_id),
    )
    trans_ids = [step["trans_id"] for step in service.transitions(job_id)]
    for told in (*(stream.events for stream in streams), service.messages(job_id)):
        of_job = [event for event in told if event["job_id"] == job_id]
        assert [event["trans_id"] for event in of_job] == trans_ids
        assert [event["state"] for event in of_job] == TO_COMPLETE

    refused = httpx.get(f"{one}/jobs/{job_id}", headers={"Authorization": f"Bearer {bob}"})
    assert refused.status_code == 403
    # What was asked at the start is told for some seconds.
    eventually(
        lambda: call("GET", f"{other}/ready", admin)["status"] == "ready",
        lambda: call("GET", f"{other}/ready", admin),
    )
    for server in service.servers:
        process = server.process
        server.stop()
        assert process is not None
        assert process.returncode == 0, server.tail()
        log_text = server.log.read_text()
        secrets = (SECRET, PASSWORD, admin, ana, bob, "token=")
        assert not any(secret in log_text for secret in secrets)
