"""A few lines of the table of faults, which ``python -m tests.faults.table`` prints whole."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults import pool
from tests.faults.field import Field
from tests.faults.harms import POINTS, harms
from tests.faults.pool import PoolField
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
HARMS = dict(harms(SECONDS))


@pytest.fixture(scope="module")
def way() -> Proxy:
    """To Kafka."""
    return Proxy(0)


@pytest.fixture(scope="module")
def services(
    mongo: MongoServer, minio: S3Server, way: Proxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServiceStack]:
    folder = tmp_path_factory.mktemp("field")
    minio.empty()
    auth = KBaseAuth()
    with or_skip():
        kafka = KafkaBroker(folder / "kafka", advertises=way.port)
    kafka.start()
    yield ServiceStack(folder, mongo, kafka, minio, auth)
    kafka.stop()
    auth.stop()


@pytest.fixture(scope="module")
def field(services: ServiceStack, way: Proxy) -> Iterator[Field]:
    with Field(services, kafka=way) as field:
        yield field


@pytest.fixture(scope="module")
def pool_field(
    services: ServiceStack, way: Proxy, condor: CondorPool, registry: Registry
) -> Iterator[PoolField]:
    with PoolField(services, kafka=way, pool=condor, registry=registry) as field:
        field.set_containers(4)
        yield field


@pytest.mark.parametrize(
    "name",
    [
        "MongoDB frozen",
        "Kafka killed",
        "S3 stopped",
        "a server killed at rollup:after@4",
        "a server frozen at rollup:before@9",
    ],
)
def test_nothing_is_lost_stuck_doubled_or_untold(field: Field, name: str) -> None:
    outcome = field.endure(HARMS[name], 10, SECONDS)
    assert outcome.is_clean, outcome


@pytest.mark.parametrize(
    "name", ["S3 killed", "the nodes' way to the service cut", "the schedd killed"]
)
def test_the_same_on_htcondor(pool_field: PoolField, name: str) -> None:
    outcome = pool_field.endure(dict(pool.harms(SECONDS))[name], 1, SECONDS)
    assert outcome.is_clean, outcome


def test_the_table_is_of_three_hundred_jobs_and_more() -> None:
    assert len(HARMS) * 10 >= 300
    assert len(set(POINTS)) == len(POINTS)
