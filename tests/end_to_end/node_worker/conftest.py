"""Fixtures of the end-to-end tests of the worker on nodes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from cts_core.engine import adapters
from cts_core.model.site import SiteName
from cts_core.sites.htcondor.worker_plan import plan_maker
from tests.harness.node_worker import INPUTS, LARGE, NodeHarness, ServerProxies
from tests.harness.reporting_site import ReportingSite
from tests.harness.server import ServerHarness
from tests.services.containers import ContainerRuntime
from tests.services.registry import Registry
from tests.services.s3 import S3Server
from tests.simulators.kbase_auth import KBaseAuth


@pytest.fixture
def proxies(minio: S3Server, registry: Registry) -> Iterator[ServerProxies]:
    proxies = ServerProxies(minio, registry)
    yield proxies
    for proxy in (proxies.service, proxies.s3, proxies.images):
        proxy.close()


@pytest.fixture
def cts_settings(
    kbase_auth: KBaseAuth,
    minio: S3Server,
    proxies: ServerProxies,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, Any]:
    minio.empty()
    minio.put({**INPUTS, "data/ana/large": LARGE})
    monkeypatch.setattr(adapters, "sites", lambda *_: {SiteName.KBASE: ReportingSite()})
    monkeypatch.setattr(adapters, "worker_plan_maker", plan_maker)
    reached = minio.settings(url=proxies.s3.url)
    monkeypatch.setattr(
        adapters, "worker_signer", lambda _: adapters.KeySigner(adapters._worker_keys(reached))
    )
    return {
        "identity": "kbase",
        "sites": [],
        "objects": "s3",
        "s3": minio.settings().model_dump(),
        "kbase": {"auth_url": kbase_auth.url, "admin_roles": ["ADMIN"]},
        "allowed_paths": ["data/{user}"],
        "log_dir": "logs/container_logs",
        "images": {
            "plain_http": [proxies.images_host],
            "private_hosts": [proxies.images_host],
        },
        "local": {"stop_grace": 0.5},
        "htcondor": {"refdata_host_path": str(tmp_path / "refdata")},
    }


@pytest.fixture(params=["podman"])
def runtime(request: pytest.FixtureRequest) -> ContainerRuntime:
    engine: ContainerRuntime = request.getfixturevalue(request.param)
    return engine


@pytest.fixture
async def node(
    server: ServerHarness,
    proxies: ServerProxies,
    runtime: ContainerRuntime,
    kbase_auth: KBaseAuth,
    tmp_path: Path,
) -> AsyncIterator[NodeHarness]:
    proxies.service.target = int(server.root.split(":")[2].split("/")[0])
    node = NodeHarness(
        server,
        proxies,
        runtime,
        tmp_path,
        ana=kbase_auth.add("ana", "KBASE_STAFF"),
        admin=kbase_auth.add("admin", "ADMIN", "KBASE_STAFF", "HAS_NERSC_ACCOUNT"),
    )
    yield node
    for worker in node.workers:
        with contextlib.suppress(ProcessLookupError):
            worker.kill()
        await worker.communicate()
