"""A test of the service's image: CTS and its staging service run from it, without rights, on real servers and a real pool."""

from __future__ import annotations

import json
import os
import shutil
import time
import tomllib
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.harness.factories import packed
from tests.harness.paths import ROOT
from tests.services.condor import INITIALDIR, CondorPool
from tests.services.containers import ContainerRuntime, layer
from tests.services.cts_image import IMAGE, CTSContainer
from tests.services.kbase import pool_and_registry, staging_at_kbase
from tests.services.proxy import Proxy
from tests.services.registry import Registry
from tests.services.together import ADMIN_ROLES, ServiceStack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TIMEOUT_SECONDS = 180.0
UID = 10001
REFERENCE = b"what the reference says\n"
INSTALLED = """
import importlib.metadata, json
print(json.dumps({d.name: d.version for d in importlib.metadata.distributions()}))
"""


@pytest.fixture
def stack(mongo, minio, kafka_server, kbase_auth, tmp_path: Path) -> ServiceStack:
    minio.empty()
    minio.put({"data/ref/db.tgz": packed(**{"db/text": REFERENCE}), "data/ana/in/x": b"x\n"})
    return ServiceStack(tmp_path, mongo, kafka_server, minio, kbase_auth)


@dataclass
class Containers:
    """A CTS and its staging service in containers."""

    cts: CTSContainer
    staging: CTSContainer
    stack: ServiceStack

    def call(self, method: str, path: str, token: str, **given: Any) -> Any:
        headers = {"Authorization": f"Bearer {token}"}
        response = httpx.request(method, self.cts.url + path, headers=headers, timeout=60, **given)
        assert response.is_success, response.text
        return response.json() if response.content else None

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not condition():
            assert time.monotonic() < deadline, self.cts.tail() + self.staging.tail()
            time.sleep(0.2)


def configuration(folder: Path, pool: CondorPool) -> Path:
    """Make the folder that the containers have as /etc/cts: the examples, and the pool's client."""
    folder.mkdir()
    for name in ("cts.toml", "refdata.toml"):
        shutil.copy(ROOT / "deploy" / name, folder)
    client = pool.client_config().read_text()
    (folder / "condor_config").write_text(
        client.replace(str(pool.pool / "tokens"), "/etc/cts/tokens")
    )
    shutil.copytree(pool.pool / "tokens", folder / "tokens")
    give(folder)
    return folder


def give(folder: Path) -> None:
    """Make the container's user the owner of a folder and all in it."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, UID, UID)


@pytest.fixture
def containers(
    stack: ServiceStack, condor: CondorPool, registry: Registry, podman, tmp_path: Path
) -> Iterator[Containers]:
    to_cts, to_staging = Proxy(0), Proxy(0)
    root_url = f"{to_cts.url}/cts"
    data = condor.pool / "work" / f"refdata-{uuid.uuid4()}"
    data.mkdir()
    give(data)
    etc = configuration(tmp_path / "etc", condor)
    cts = CTSContainer(
        tmp_path / f"cts-{uuid.uuid4()}",
        {
            **stack.environ(),
            **pool_and_registry(condor, registry),
            "CONDOR_CONFIG": "/etc/cts/condor_config",
            "CTS_HOME": "/var/lib/cts/home",
            "CTS_LOCAL__SHARED": "",
            "CTS_SITES": "kbase",
            "CTS_ROOT_URL": root_url,
            "CTS_HTCONDOR__REFDATA_HOST_PATH": f"{INITIALDIR}/{data.name}/data",
            "CTS_REFDATA__SERVER_URL": f"{to_staging.url}/cts",
            "CTS_REFDATA__SERVER_TOKEN": stack.auth.add("cts", "CDM_TASK_SERVICE_SERVER"),
        },
        podman,
        {etc: "/etc/cts:ro"},
    )
    given = staging_at_kbase(tmp_path, Path("/refdata/data"), stack.s3, stack.auth, root_url)
    del given["KBCTS_MODE"]
    staging = CTSContainer(
        tmp_path / f"staging-{uuid.uuid4()}",
        {
            **given,
            "CTS_CONFIG": "/etc/cts/refdata.toml",
            "CTS_HOME": "/var/lib/cts/home",
            "CTS_REFDATA__METADATA_PATH": "/refdata/sums",
        },
        podman,
        {etc: "/etc/cts:ro", data: "/refdata"},
        "--refdata",
    )
    try:
        for container, proxy in ((cts, to_cts), (staging, to_staging)):
            container.start()
            proxy.target = container.port
        yield Containers(cts, staging, stack)
    finally:
        for server in (staging, cts):
            server.stop()
        for proxy in (to_cts, to_staging):
            proxy.close()
        shutil.rmtree(data, ignore_errors=True)


def locked() -> Mapping[str, set[str]]:
    """Return the versions of each package in the lock file."""
    versions: dict[str, set[str]] = {}
    for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]:
        versions.setdefault(package["name"], set()).add(package["version"])
    return versions


def test_image_has_what_is_locked_and_no_more(cts_image: str, podman: ContainerRuntime) -> None:
    options = ["--rm", "--network=none", "--entrypoint=python", *podman.arguments]
    found = podman.run("run", *options, IMAGE, "-c", INSTALLED)
    installed = json.loads(found)
    versions = locked()
    assert {"cts-jupyter", "htcondor", "pymongo", "boto3"} <= installed.keys()
    normal = {name.lower().replace("_", "-").replace(".", "-"): v for name, v in installed.items()}
    assert {name for name, version in normal.items() if version not in versions[name]} == set()
    # Neither tests nor what builds the image.
    assert not {"pytest", "uv", "pip", "hatchling"} & normal.keys()


def test_job_and_reference_data_are_complete_from_the_image(
    cts_image: str, containers: Containers, registry: Registry
) -> None:
    for container in (containers.cts, containers.staging):
        assert container.run("id", "-u").strip() == str(UID)
        assert "CapEff:\t0000000000000000" in container.run("cat", "/proc/self/status")
        with pytest.raises(AssertionError, match="Read-only file system"):
            container.run("touch", "/opt/cts/x")
        container.run("python", "-m", "cts_jupyter.server.probe")

    admin, ana = (
        containers.stack.auth.add(name, *roles)
        for name, roles in (("admin", ADMIN_ROLES), ("ana", ("KBASE_STAFF",)))
    )
    refdata = containers.call(
        "POST", "/admin/refdata/data/ref/db.tgz", admin, params={"unpack": "true"}
    )

    def is_staged() -> bool:
        (status,) = containers.call("GET", f"/admin/refdata/{refdata['id']}", admin)["statuses"]
        assert status["state"] != "error", status
        return bool(status["state"] == "complete")

    containers.until(is_staged)
    script = "cat /reference/db/text /input_files/x > /output_files/both"
    registry.push_image("fake/image", "1", ["/bin/sh", "-c", script], layers=[layer()])
    image = f"{registry.host}/fake/image:1"
    mount = {"refdata_id": refdata["id"], "default_refdata_mount_point": "/reference"}
    containers.call("POST", f"/admin/images/{image}", admin, params=mount)
    body = {
        "cluster": "kbase",
        "image": image,
        "params": {},
        "input_files": ["data/ana/in/x"],
        "memory": "200MB",
        "runtime": 600,
        "output_dir": "data/ana/out",
    }
    job_id = containers.call("POST", "/jobs", ana, json=body)["job_id"]

    def has_ended() -> bool:
        job = containers.call("GET", f"/jobs/{job_id}", ana)
        assert job["state"] != "error", containers.call("GET", f"/admin/jobs/{job_id}", admin)
        return bool(job["state"] == "complete")

    containers.until(has_ended)
    stored = containers.stack.s3.client().get_object(Bucket="data", Key="ana/out/both")
    assert stored["Body"].read() == REFERENCE + b"x\n"

    process = containers.cts.process
    assert process is not None
    containers.cts.stop()
    assert process.returncode == 0
