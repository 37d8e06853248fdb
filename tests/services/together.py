"""All servers that the preset ``service`` depends on: MongoDB, S3, Kafka and KBase's auth."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cts_core.worker.runtimes.sandbox import PROGRAM
from tests.harness.paths import ROOT
from tests.services.bubblewrap import HINT
from tests.services.kafka import KafkaBroker
from tests.services.minio import start_minio
from tests.services.mongo import MongoServer
from tests.services.s3 import ACCESS_KEY, SECRET, S3Server
from tests.services.server import require_program
from tests.simulators.kbase_auth import KBaseAuth

ADMIN_ROLES = ("CTS_ADMIN", "KBASE_STAFF", "HAS_NERSC_ACCOUNT")
"""The roles of an admin of the service, who needs all of them."""


@dataclass
class ServiceStack:
    """Running servers, and a folder for the services on them."""

    folder: Path
    mongo: MongoServer
    kafka: KafkaBroker
    s3: S3Server
    auth: KBaseAuth

    def environ(
        self,
        *,
        mongo_port: int | None = None,
        s3_url: str | None = None,
        kafka_port: int | None = None,
    ) -> dict[str, str]:
        """Return the environment variables of a new, empty service on these servers.

        Other ports and URLs than the servers' own are those of proxies.
        """
        name = f"cts-{uuid.uuid4().hex[:8]}"
        mongo = self.mongo.settings(name)
        return {
            "CTS_PRESET": "service",
            "CTS_HOME": str(self.folder / name),
            "CTS_SITES": "local",
            "CTS_LOCAL__SHARED": "true",
            # A checkout that is installed in place has its modules there.
            "CTS_LOCAL__PROGRAM_FOLDERS": str(ROOT),
            "CTS_ALLOWED_PATHS": "data/{user}",
            "CTS_LOG_DIR": "logs/container_logs",
            "CTS_MONGO__HOST": f"127.0.0.1:{mongo_port or self.mongo.port}",
            "CTS_MONGO__DB": name,
            "CTS_MONGO__USER": mongo.user,
            "CTS_MONGO__PASSWORD": mongo.password.get_secret_value(),
            "CTS_S3__URL": s3_url or self.s3.url,
            "CTS_S3__ACCESS_KEY": ACCESS_KEY,
            "CTS_S3__ACCESS_SECRET": SECRET,
            "CTS_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{kafka_port or self.kafka.port}",
            "CTS_KAFKA__TOPIC": self.kafka.create_topic(name),
            "CTS_KBASE__AUTH_URL": self.auth.url,
            "CTS_KBASE__ADMIN_ROLES": ADMIN_ROLES[0],
        }


@contextmanager
def started_stack(folder: Path, *, kafka_advertises: int | None = None) -> Iterator[ServiceStack]:
    """Start all servers in a new folder; see ``KafkaBroker`` for the port. Raises MissingError."""
    require_program(PROGRAM, HINT)
    with ExitStack() as stack:
        mongo = MongoServer(folder / "mongo")
        kafka = KafkaBroker(folder / "kafka", advertises=kafka_advertises)
        for server in (mongo, kafka):
            stack.callback(server.stop)
            server.start()
        s3 = start_minio(folder / "minio")
        stack.callback(s3.program.stop)
        auth = KBaseAuth()
        stack.callback(auth.stop)
        yield ServiceStack(folder, mongo, kafka, s3, auth)
