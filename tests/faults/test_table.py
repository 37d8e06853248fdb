"""A few lines of the table of faults, which ``python -m tests.faults.table`` prints whole."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.field import Field
from tests.faults.harms import POINTS, harms
from tests.services.kafka import KafkaBroker
from tests.services.mongo import MongoServer
from tests.services.proxy import Proxy
from tests.services.s3 import S3Server
from tests.services.server import MissingError, skip_without
from tests.services.together import Together
from tests.simulators.kbase_auth import KBaseAuth

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]

SECONDS = 2.0
HARMS = dict(harms(SECONDS))


@pytest.fixture(scope="module")
def field(
    mongo: MongoServer, minio: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Field]:
    folder = tmp_path_factory.mktemp("field")
    minio.empty()
    way, auth = Proxy(0), KBaseAuth()
    try:
        kafka = KafkaBroker(folder / "kafka", advertises=way.port)
    except MissingError as e:
        skip_without(e)
        raise
    kafka.start()
    with Field(Together(folder, mongo, kafka, minio, auth), kafka=way) as field:
        yield field
    kafka.stop()
    auth.stop()


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


def test_the_table_is_of_three_hundred_jobs_and_more() -> None:
    assert len(HARMS) * 10 >= 300
    assert len(set(POINTS)) == len(POINTS)
