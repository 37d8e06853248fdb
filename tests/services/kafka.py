"""A real Apache Kafka broker: one node in KRaft mode, from Maven Central."""

from __future__ import annotations

import gc
import json
import shlex
import subprocess
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from cts_core.events.kafka import client, listener, publisher
from tests.services.server import (
    MissingError,
    ServerProcess,
    free_port,
    install_folder,
    is_listening,
    or_skip,
    require_program,
)

VERSION = "4.1.1"
PARTITIONS = 3
_JAVA = (
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)
_CLUSTER_ID = "Y3RzLXRlc3RzLWthZmthLQ"

_POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>cts</groupId>
  <artifactId>kafka-for-tests</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""

_CONFIG = """\
process.roles=broker,controller
node.id=1
listeners=BROKER://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=BROKER://127.0.0.1:{advertises}
inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.quorum.voters=1@127.0.0.1:{controller_port}
log.dirs={data}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
auto.create.topics.enable=false
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=2000
"""


@dataclass(frozen=True)
class Message:
    """A message on a topic."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes


def install() -> Path:
    """Return the folder of the broker's class path, which is downloaded once. Raises MissingError."""
    mvn = require_program("mvn", "apt-get install maven")
    with install_folder("kafka") as folder:
        libraries = folder / VERSION
        if not libraries.exists():
            (folder / "pom.xml").write_text(_POM)
            part = folder / "part"
            fetched = subprocess.run(
                [mvn, "-B", "-q", "dependency:copy-dependencies", f"-DoutputDirectory={part}"],
                cwd=folder,
                check=False,
                capture_output=True,
                text=True,
            )
            if fetched.returncode:
                raise MissingError(f"Maven could not fetch Kafka:\n{fetched.stdout[-2000:]}")
            part.rename(libraries)
    return libraries


class KafkaBroker(ServerProcess):
    """The broker. Its topics survive a kill and a new start."""

    def __init__(self, folder: Path, *, advertises: int | None = None) -> None:
        """Set up the broker; ``advertises`` is the port that clients are sent to, if they connect through a proxy."""
        java = require_program("java", "apt-get install openjdk-17-jre-headless")
        libraries = install()
        self.port, controller_port = free_port(), free_port()
        data = folder / "data"
        config = folder / "server.properties"
        folder.mkdir(parents=True, exist_ok=True)
        config.write_text(
            _CONFIG.format(
                port=self.port,
                controller_port=controller_port,
                data=data,
                advertises=advertises or self.port,
            )
        )
        run = shlex.join([java, *_JAVA, "-cp", str(libraries / "*")])
        form = f"kafka.tools.StorageTool format --cluster-id {_CLUSTER_ID} --config {config}"
        script = f"[ -e {data}/meta.properties ] || {run} {form} && exec {run} kafka.Kafka {config}"
        super().__init__(["sh", "-c", script], folder, lambda: is_listening(self.port))

    @property
    def address(self) -> str:
        """The bootstrap address for clients."""
        return f"127.0.0.1:{self.port}"

    def create_topic(self, name: str | None = None, **configs: str) -> str:
        """Create an empty topic; return its name. ``configs`` are named as Kafka's, with underscores for dots."""
        topic = name or f"cts-{uuid.uuid4()}"
        admin = KafkaAdminClient(bootstrap_servers=self.address)
        named = {key.replace("_", "."): value for key, value in configs.items()}
        admin.create_topics([NewTopic(topic, PARTITIONS, 1, topic_configs=named)])
        admin.close()
        return topic

    def delete_topic(self, name: str) -> None:
        """Delete a topic with its messages."""
        admin = KafkaAdminClient(bootstrap_servers=self.address)
        admin.delete_topics([name])
        admin.close()

    def messages(self, topic: str) -> list[Message]:
        """Return all messages on a topic, in order by partition."""
        consumer = KafkaConsumer(bootstrap_servers=self.address, group_id=None)
        try:
            partitions = [TopicPartition(topic, n) for n in consumer.partitions_for_topic(topic)]
            consumer.assign(partitions)
            consumer.seek_to_beginning()
            ends = consumer.end_offsets(partitions)
            messages = []
            while any(consumer.position(p) < ends[p] for p in partitions):
                for records in consumer.poll(timeout_ms=200).values():
                    messages += [Message(r.partition, r.offset, r.key, r.value) for r in records]
            return messages
        finally:
            consumer.close()

    def logs(self, topic: str) -> list[bytes]:
        """Return the content of the log files of a topic's partitions on the broker's disk."""
        return [file.read_bytes() for file in self.folder.glob(f"data/{topic}-*/*.log")]

    def read(self, topic: str) -> list[dict[str, Any]]:
        """Return the parsed values of the messages on a topic, in order by partition."""
        return [json.loads(message.value) for message in self.messages(topic)]


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """Start the broker of this test run; a test that stops or freezes it uses ``kafka`` instead."""
    with or_skip():
        broker = KafkaBroker(tmp_path_factory.mktemp("kafka"))
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def kafka(kafka_server: KafkaBroker) -> Iterator[KafkaBroker]:
    """Return the broker of this test run, and make it run again after the test."""
    with warnings.catch_warnings():
        # The client leaves the socket of a refused connection to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        yield kafka_server
        kafka_server.thaw()
        if kafka_server.process is None:
            kafka_server.start()
        gc.collect()


@pytest.fixture
def short_kafka_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the timeouts, so that outages are noticed sooner."""
    monkeypatch.setattr(client, "CONNECT_SECONDS", 2.0)
    monkeypatch.setattr(client, "REQUEST_SECONDS", 2.0)
    monkeypatch.setattr(publisher, "DELIVERY_SECONDS", 3.0)
    monkeypatch.setattr(publisher, "PUBLISH_SECONDS", 5.0)
    monkeypatch.setattr(publisher, "FAIL_FAST_SECONDS", 0.1)
    monkeypatch.setattr(listener, "CHECK_SECONDS", 0.5)
    monkeypatch.setattr(listener, "RETRY_SECONDS", 0.1)
