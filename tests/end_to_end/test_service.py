"""A test of the whole preset ``service``: MongoDB, S3, Kafka, KBase's auth, and ``jupyter cts`` as processes."""

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

TIMEOUT_SECONDS = 90.0
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


class Subscriber(threading.Thread):
    """Subscribes to a user's events, and keeps them."""

    def __init__(self, url: str, token: str) -> None:
        super().__init__(daemon=True)
        self._url = f"{url}/events"
        self._headers = {"Authorization": f"Bearer {token}"}
        self.events: list[dict[str, Any]] = []
        self.is_open = threading.Event()

    def run(self) -> None:
        # The stream ends with its server.
        with (
            contextlib.suppress(httpx.HTTPError),
            httpx.stream("GET", self._url, headers=self._headers, timeout=60) as response,
        ):
            name = ""
            for line in response.iter_lines():
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
    """A service of two servers."""

    services: ServiceStack
    environ: Mapping[str, str]
    servers: list[CTSProcess]

    def transitions(self, job_id: str) -> list[dict[str, Any]]:
        """Return a job's transitions in the database."""
        with self.services.mongo.client() as client:
            job = client[self.environ["CTS_MONGO__DB"]]["jobs"].find_one({"id": job_id})
        return job["transition_times"]

    def messages(self, job_id: str) -> list[dict[str, Any]]:
        """Return a job's messages on Kafka, in order, without duplicates."""
        events: dict[str, dict[str, Any]] = {}
        for message in self.services.kafka.messages(self.environ["CTS_KAFKA__TOPIC"]):
            if message.key == job_id.encode():
                event = json.loads(message.value)
                events.setdefault(event["trans_id"], event)
        return list(events.values())


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


def eventually(condition: Callable[[], Any], message: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, message()
        time.sleep(0.1)


def bucket_and_key(path: str) -> dict[str, str]:
    bucket, _, key = path.partition("/")
    return {"Bucket": bucket, "Key": key}


def call(method: str, url: str, token: str, **given: Any) -> Any:
    headers = {"Authorization": f"Bearer {token}", **given.pop("headers", {})}
    response = httpx.request(method, url, headers=headers, timeout=60, **given)
    assert response.is_success, response.text
    return response.json() if response.content else None


def test_job_from_submission_to_checksummed_outputs(service: Service) -> None:
    auth, s3 = service.services.auth, service.services.s3
    one, other = (server.url for server in service.servers)
    admin, ana, bob = auth.add("admin", *ADMIN_ROLES), auth.add("ana"), auth.add("bob")
    registration = {"executable": str(COPY_INPUTS), "variables": ["OUT"]}
    call("POST", f"{one}/admin/images/host/tool", admin, json=registration)
    with contextlib.closing(s3.client()) as client:
        for path, content in FILES.items():
            crc = crc64nvme_text(content)
            client.put_object(**bucket_and_key(path), Body=content, ChecksumCRC64NVME=crc)
    subscribers = [Subscriber(url, ana) for url in (one, other)]
    for subscriber in subscribers:
        subscriber.start()
        assert subscriber.is_open.wait(TIMEOUT_SECONDS)

    key = {"Idempotency-Key": "once"}
    job_id = call("POST", f"{one}/jobs", ana, json=BODY, headers=key)["job_id"]
    assert call("POST", f"{other}/jobs", ana, json=BODY, headers=key) == {"job_id": job_id}
    eventually(
        lambda: all("complete" in subscriber.states(job_id) for subscriber in subscribers),
        lambda: call("GET", f"{one}/jobs/{job_id}", ana),
    )
    job = call("GET", f"{other}/jobs/{job_id}", ana)
    assert [step["state"] for step in job["transition_times"]] == TO_COMPLETE

    # The outputs are on S3, with the checksums in the job.
    with contextlib.closing(s3.client()) as client:
        stored = {}
        for output in job["outputs"]:
            stored_object = client.get_object(
                **bucket_and_key(output["file"]), ChecksumMode="ENABLED"
            )
            content = stored[output["file"]] = stored_object["Body"].read()
            assert (
                stored_object["ChecksumCRC64NVME"] == output["crc64nvme"] == crc64nvme_text(content)
            )
        log = client.get_object(**bucket_and_key(f"{job['logpath']}/container-0-stdout.txt"))
        assert log["Body"].read().startswith(b"tool: working on")
    assert stored == {
        f"data/ana/out/{Path(path).name}.out": content for path, content in FILES.items()
    }

    # Both servers' subscribers and Kafka got each transition, in order.
    eventually(
        lambda: all(step["notif_sent"] for step in service.transitions(job_id)),
        lambda: service.transitions(job_id),
    )
    trans_ids = [step["trans_id"] for step in service.transitions(job_id)]
    for events in (*(subscriber.events for subscriber in subscribers), service.messages(job_id)):
        of_job = [event for event in events if event["job_id"] == job_id]
        assert [event["trans_id"] for event in of_job] == trans_ids
        assert [event["state"] for event in of_job] == TO_COMPLETE

    refused = httpx.get(f"{one}/jobs/{job_id}", headers={"Authorization": f"Bearer {bob}"})
    assert refused.status_code == 403
    # The result of a check is cached for some seconds.
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
