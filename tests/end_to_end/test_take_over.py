"""A test of taking over: the deployed service's configuration is imported, and its URLs go on behind its own proxy."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from cts_core.config.settings import NESTING, PREFIX
from cts_jupyter.cli.config_import import ImportedConfig, import_config, to_toml
from tests.harness.paths import ROOT
from tests.services.condor import INITIALDIR
from tests.services.containers import layer
from tests.services.cts import CTSProcess
from tests.services.kbase import pool_and_registry
from tests.services.mongo import USER
from tests.services.nginx import rewriting_proxy
from tests.services.registry import Registry
from tests.services.s3 import ACCESS_KEY, SECRET
from tests.services.server import free_port
from tests.services.together import ADMIN_ROLES, ServiceStack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

TIMEOUT_SECONDS = 180.0
DEPLOYED_PREFIX = "/services/cts"
SITES = ["kbase", "lawrencium-jaws", "perlmutter-jaws"]
CLOSED = "http://127.0.0.1:9"
NOBODY_AT_NERSC = {
    f"CTS_JAWS__{name}": CLOSED
    for name in ("SFAPI_URL", "SFAPI_BETA_URL", "SFAPI_TOKEN_URL", "URL")
}
INPUTS = {f"data/ana/in/{name}.fa": f">{name}\n".encode() for name in "ab"}


@dataclass
class Caller:
    """A user of the service at one of its URLs."""

    url: str
    token: str

    def request(self, method: str, path: str, **given: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return httpx.request(method, self.url + path, headers=headers, timeout=60, **given)

    def call(self, method: str, path: str, **given: Any) -> Any:
        response = self.request(method, path, **given)
        assert response.is_success, response.text
        return response.json() if response.content else None


def imported_config(stack: ServiceStack, root_url: str) -> ImportedConfig:
    """Import the deployed service's own template, rendered for these servers."""
    rendered = tomllib.loads((ROOT / "tests/jupyter/cli/deployed.toml").read_text())
    environ = stack.environ()
    rendered["Authentication"] |= {"url": stack.auth.url, "admin_roles_full": ADMIN_ROLES[0]}
    rendered["HTCondor"] |= {"initialdir": INITIALDIR, "clientgroup": "cts"}
    rendered["ExternalExecution"] |= {"refserver_url": "", "refserver_token": ""}
    rendered["S3"] |= {"url": stack.s3.url, "external_url": ""}
    rendered["S3"] |= {"access_key": ACCESS_KEY, "access_secret": SECRET}
    rendered["MongoDB"] |= {
        "mongo_host": f"mongodb://{environ['CTS_MONGO__HOST']}",
        "mongo_db": environ["CTS_MONGO__DB"],
        "mongo_user": USER,
        "mongo_pwd": environ["CTS_MONGO__PASSWORD"],
    }
    rendered["Jobs"] |= {"allowed_s3_paths": "data", "container_s3_log_dir": "logs/container_logs"}
    rendered["Kafka"] |= {
        "bootstrap_servers": environ["CTS_KAFKA__BOOTSTRAP_SERVERS"],
        "topic_jobs": environ["CTS_KAFKA__TOPIC"],
    }
    rendered["Service"] |= {"root_url": root_url, "root_path": DEPLOYED_PREFIX}
    return import_config(rendered, {})


@pytest.fixture
def stack(mongo, minio, kafka_server, kbase_auth, tmp_path: Path) -> ServiceStack:
    minio.empty()
    minio.put(INPUTS)
    return ServiceStack(tmp_path, mongo, kafka_server, minio, kbase_auth)


@pytest.fixture
def urls(stack: ServiceStack, condor, registry, nginx, tmp_path: Path) -> Iterator[list[str]]:
    """Start a server with the imported configuration; return its URLs at proxies that strip and that keep the prefix."""
    ports = [free_port(), free_port()]
    urls = [f"http://127.0.0.1:{port}{DEPLOYED_PREFIX}" for port in ports]
    imported = imported_config(stack, urls[0])
    assert not imported.wrong
    assert not imported.unknown
    file = tmp_path / "cts.toml"
    file.write_text(to_toml(imported))
    secrets = {
        PREFIX + name.upper().replace(".", NESTING): text for name, text in imported.secrets.items()
    }
    around = pool_and_registry(condor, registry) | {"CTS_HOME": str(tmp_path / "home")}
    around |= NOBODY_AT_NERSC
    server = CTSProcess(tmp_path / "server", {**around, **secrets, "CTS_CONFIG": str(file)})
    server.start()
    proxies = [
        rewriting_proxy(
            tmp_path / kind, port, server.port, DEPLOYED_PREFIX, strips=kind == "strips"
        )
        for kind, port in zip(("strips", "keeps"), ports, strict=True)
    ]
    try:
        for proxy in proxies:
            proxy.start()
        yield urls
    finally:
        for process in (*proxies, server):
            process.stop()
        stack.kafka.delete_topic(imported.settings["kafka.topic"])
        with stack.mongo.client() as client:
            client.drop_database(imported.settings["mongo.db"])


def check_urls(caller: Caller, root_url: str) -> None:
    for path in ("/", "//"):
        assert caller.call("GET", path)["service_name"] == "CDM Task Service"
    for path in ("/whoami", "//whoami", "/whoami/"):
        assert caller.call("GET", path)["user"] == "ana"
    assert [site["cluster"] for site in caller.call("GET", "/sites/")["sites"]] == SITES
    assert caller.call("GET", "/jobs/?limit=10") == {"jobs": []}
    unknown = caller.request("GET", "/cts/whoami/x")
    assert (unknown.status_code, unknown.json()["error"]["appcode"]) == (404, 40000)
    assert caller.request("DELETE", "/whoami").status_code == 405
    bad = Caller(caller.url, "bad").request("GET", "/nothing")
    assert bad.json()["error"]["appcode"] == 10020
    # The page of the documentation finds its description beside itself.
    assert 'href="openapi.json"' in caller.request("GET", "/docs").text
    assert caller.call("GET", "/openapi.json")["servers"] == [{"url": root_url}]


def test_deployed_urls_and_jobs_go_on_behind_the_deployed_proxy(
    urls: list[str], stack: ServiceStack, registry: Registry
) -> None:
    stripping, keeping = (Caller(url, stack.auth.add("ana", "KBASE_STAFF")) for url in urls)
    for caller in (stripping, keeping):
        check_urls(caller, urls[0])

    script = "cat /input_files/*.fa > /output_files/all.fa"
    registry.push_image("fake/old", "1", ["/bin/sh", "-c", script], layers=[layer()])
    image = f"{registry.host}/fake/old:1"
    Caller(keeping.url, stack.auth.add("admin", *ADMIN_ROLES)).call(
        "POST", f"/admin/images/{image}", json={}
    )
    body = {
        "cluster": "kbase",
        "image": image,
        "params": {},
        "input_files": sorted(INPUTS),
        "memory": "200MB",
        "runtime": 600,
        "output_dir": "data/ana/out",
    }
    # Users come by one of the proxies, the workers on the nodes by the other.
    job_id = keeping.call("POST", "/jobs/", json=body)["job_id"]
    headers = {"Authorization": f"Bearer {keeping.token}"}
    url = f"{keeping.url}/jobs/{job_id}/events"
    with httpx.stream("GET", url, headers=headers, timeout=TIMEOUT_SECONDS) as stream:
        data = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: {")]
    states = [event["state"] for event in data if "state" in event]
    assert (states[0], states[-1]) == ("created", "complete")
    job = stripping.call("GET", f"/jobs/{job_id}")
    assert [output["file"] for output in job["outputs"]] == ["data/ana/out/all.fa"]
