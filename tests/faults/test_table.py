"""A few rows of the table of faults, which ``python -m tests.faults.table`` prints whole."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults import jaws_servers, pool, shared_home
from tests.faults.catalog import POINTS, faults
from tests.faults.jaws_servers import JAWSFaultHarness, started_sites
from tests.faults.pool import PoolFaultHarness
from tests.harness.faults import FaultHarness
from tests.services.condor import CondorPool
from tests.services.kafka import KafkaBroker
from tests.services.mongo import MongoServer
from tests.services.proxy import Proxy
from tests.services.registry import Registry
from tests.services.s3 import S3Server
from tests.services.server import or_skip
from tests.services.together import ServiceStack
from tests.simulators.kbase_auth import KBaseAuth

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]

SECONDS = 2.0
FAULTS = dict(faults(SECONDS))


@pytest.fixture(scope="module")
def kafka_proxy() -> Proxy:
    return Proxy(0)


@pytest.fixture(scope="module")
def services(
    mongo: MongoServer,
    minio: S3Server,
    kafka_proxy: Proxy,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ServiceStack]:
    folder = tmp_path_factory.mktemp("harness")
    minio.empty()
    auth = KBaseAuth()
    with or_skip():
        kafka = KafkaBroker(folder / "kafka", advertises=kafka_proxy.port)
    kafka.start()
    yield ServiceStack(folder, mongo, kafka, minio, auth)
    kafka.stop()
    auth.stop()


@pytest.fixture(scope="module")
def harness(services: ServiceStack, kafka_proxy: Proxy) -> Iterator[FaultHarness]:
    with or_skip():
        made = FaultHarness(services, kafka=kafka_proxy)
    with made as harness:
        yield harness


@pytest.fixture(scope="module")
def pool_harness(
    services: ServiceStack, kafka_proxy: Proxy, condor: CondorPool, registry: Registry
) -> Iterator[PoolFaultHarness]:
    with or_skip():
        made = PoolFaultHarness(services, kafka=kafka_proxy, pool=condor, registry=registry)
    with made as harness:
        harness.set_containers(4)
        yield harness


@pytest.fixture(scope="module")
def jaws_harness(
    services: ServiceStack, kafka_proxy: Proxy, registry: Registry
) -> Iterator[JAWSFaultHarness]:
    with started_sites(services.folder) as sites:
        with or_skip():
            made = JAWSFaultHarness(services, kafka=kafka_proxy, sites=sites, registry=registry)
        with made as harness:
            yield harness


@pytest.mark.parametrize(
    "name",
    [
        "MongoDB frozen",
        "Kafka killed",
        "S3 stopped",
        "S3 frozen until a canceled job has ended",
        "a server's clock 40 s ahead",
        "a server killed at rollup:after@4",
        "a server frozen at rollup:before@9",
    ],
)
def test_no_job_is_lost_stuck_run_twice_or_undelivered(harness: FaultHarness, name: str) -> None:
    outcome = harness.run_with(FAULTS[name], 10, SECONDS)
    assert outcome.is_clean, outcome


@pytest.mark.parametrize(
    "name", ["S3 killed", "the nodes' way to the service cut", "the schedd killed"]
)
def test_no_container_on_htcondor_is_lost_stuck_or_run_twice(
    pool_harness: PoolFaultHarness, name: str
) -> None:
    outcome = pool_harness.run_with(dict(pool.faults(SECONDS))[name], 1, SECONDS)
    assert outcome.is_clean, outcome


@pytest.mark.parametrize(
    "name",
    ["servers killed at a submission, NERSC away", "a server frozen during the download"],
)
def test_no_run_at_jaws_is_lost_stuck_or_doubled(jaws_harness: JAWSFaultHarness, name: str) -> None:
    outcome = jaws_harness.run_with(dict(jaws_servers.faults(SECONDS))[name], 3, SECONDS)
    assert outcome.is_clean, outcome


def test_each_kernel_of_a_shared_home_finds_its_own_server() -> None:
    with or_skip():
        outcome = shared_home.run(4)
    assert outcome.is_clean, outcome


def test_the_table_is_of_three_hundred_jobs_and_more() -> None:
    assert len(FAULTS) * 10 >= 300
    assert len(set(POINTS)) == len(POINTS)
