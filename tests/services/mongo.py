"""A server that speaks MongoDB's wire protocol: FerretDB 2 on PostgreSQL with Microsoft's DocumentDB extension.

No package registry has ``mongod``. This is the most complete stand-in that is available: FerretDB from the Go module proxy,
PostgreSQL 18 and ``postgresql-18-documentdb`` from Debian sid, unpacked into a folder and run in namespaces of their
own. It reports itself as MongoDB 7.0. The differences that matter to the store:

- It does not sort by an index: ``explain`` shows which index is scanned between which bounds, but rows are sorted
  afterwards. So the time of the first page of *all* users' jobs grows with their number here, but not on MongoDB.
- It is no replica set: there are no retryable writes, no elections, and no transactions over several documents.
- A duplicate key error does not name the key; some errors have other codes (such as for a document that is too large).
- It accepts two indexes that differ only in options, where MongoDB may refuse the second one.
- ``explain`` returns plans in PostgreSQL's terms.

Alternatives: FerretDB 1.24 has no updates by a pipeline and no positional operator; mongo-java-server (Maven Central)
keeps everything in memory, so that a killed server would come back empty.
"""

from __future__ import annotations

import shlex
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pymongo
import pytest
from pydantic import SecretStr
from pymongo.database import Database
from pymongo.errors import PyMongoError

from cts_core.config.sections import MongoSettings
from tests.services.server import (
    free_port,
    install_folder,
    or_skip,
    require_program,
)
from tests.services.sid import NamespaceServer, enter, install_root, require_root, run

FERRETDB = "github.com/FerretDB/FerretDB/v2/cmd/ferretdb"
FERRETDB_VERSION = "v2.7.0"
PACKAGE = "postgresql-18-documentdb"
USER, PASSWORD = "cts", "p@ss/w:rd % 1"

_POSTGRES = "/usr/lib/postgresql/18/bin"
_POSTGRES_SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = '/mnt'
shared_preload_libraries = 'pg_cron,pg_documentdb_core,pg_documentdb'
cron.database_name = 'postgres'
max_connections = 300
shared_buffers = 256MB
"""
_IN_ROOT = "chroot --userspec=postgres:postgres {root}"
_INITIALIZE = """
{enter} {bin}/initdb -D /mnt/data --auth=trust --encoding=UTF8 --locale=C.UTF-8 --no-sync
printf '%s' {settings} | {enter} tee -a /mnt/data/postgresql.conf
{enter} {bin}/pg_ctl -D /mnt/data -w -l /mnt/postgres.log start -o '-p {port}'
{enter} {bin}/psql -h /mnt -p {port} -v ON_ERROR_STOP=1 -c 'CREATE EXTENSION documentdb CASCADE' -c {user}
{enter} {bin}/pg_ctl -D /mnt/data -w stop
"""
# Both run in one process namespace: when its first process is killed, all of them are, as by a power cut.
_RUN = """
{enter} {bin}/postgres -D /mnt/data -p {postgres_port} &
postgres=$!
until {enter} {bin}/pg_isready -q -h /mnt -p {postgres_port}; do kill -0 $postgres; sleep 0.05; done
{ferretdb} --listen-addr=127.0.0.1:{port} --postgresql-url=postgres://postgres@127.0.0.1:{postgres_port}/postgres \\
  --state-dir={folder} --telemetry=disable --debug-addr=- --log-level=WARN &
ferretdb=$!
trap 'trap - TERM; kill $ferretdb; kill -INT $postgres; wait; exit 0' TERM
wait
"""


def _install_ferretdb(folder: Path) -> None:
    go = require_program("go", "install Go from golang.org or your distribution")
    module = folder / "module"
    module.mkdir(exist_ok=True)
    (module / "go.mod").write_text("module server\n\ngo 1.24\n")
    run([go, "get", f"{FERRETDB}@{FERRETDB_VERSION}"], cwd=module)
    run([go, "build", "-o", str(folder / "ferretdb.new"), FERRETDB], cwd=module)
    (folder / "ferretdb.new").rename(folder / "ferretdb")


def _install_data(folder: Path) -> None:
    """Create an empty database with one user; each server starts with a copy of it."""
    new = folder / "template.new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    new.chmod(0o777)
    user = (
        f'{{"createUser": "{USER}", "pwd": "{PASSWORD}", "roles": '
        '[{"role": "readWriteAnyDatabase", "db": "admin"}, {"role": "clusterAdmin", "db": "admin"}]}'
    )
    script = _INITIALIZE.format(
        enter=_IN_ROOT.format(root=shlex.quote(str(folder / "root"))),
        bin=_POSTGRES,
        settings=shlex.quote(_POSTGRES_SETTINGS),
        port=free_port(),
        user=shlex.quote(f"SELECT documentdb_api.create_user('{user}')"),
    )
    run(enter(folder / "root", new, script))
    new.rename(folder / "template")


def install() -> Path:
    """Return the folder with the server; the first call takes about three minutes. Raises MissingError."""
    require_root("The MongoDB server")
    with install_folder("mongo") as folder:
        steps = {
            "root": lambda folder: install_root(folder, PACKAGE),
            "ferretdb": _install_ferretdb,
            "template": _install_data,
        }
        for name, install_step in steps.items():
            if not (folder / name).exists():
                install_step(folder)
    return folder


class MongoServer(NamespaceServer):
    """FerretDB and its PostgreSQL, as one server that is killed, frozen and started again together."""

    def __init__(self, folder: Path) -> None:
        self.installed = install()
        self.port = free_port()
        self._postgres_port = free_port()
        self.data = folder / "server"
        super().__init__(self._command(), folder, self._is_ready)

    def _command(self) -> list[str]:
        root = self.installed / "root"
        script = _RUN.format(
            enter=_IN_ROOT.format(root=shlex.quote(str(root))),
            bin=_POSTGRES,
            port=self.port,
            postgres_port=self._postgres_port,
            ferretdb=shlex.quote(str(self.installed / "ferretdb")),
            folder=shlex.quote(str(self.data)),
        )
        return enter(root, self.data, script)

    def start(self) -> None:
        if not self.data.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            # Owners and modes are preserved, as PostgreSQL requires.
            run(["cp", "-a", str(self.installed / "template"), str(self.data)])
        super().start()

    def _is_ready(self) -> bool:
        try:
            with self.client(timeoutMS=1000, serverSelectionTimeoutMS=1000) as client:
                client.admin.command("ping")
        except PyMongoError:
            return False
        return True

    def client(self, **options: object) -> pymongo.MongoClient:
        """Return a client that bypasses the store."""
        login = {"username": USER, "password": PASSWORD}
        return pymongo.MongoClient("127.0.0.1", self.port, tz_aware=True, **login, **options)

    def settings(self, db: str, **changes: object) -> MongoSettings:
        """Return the settings of a store in this database."""
        settings = MongoSettings(
            host=f"127.0.0.1:{self.port}",
            db=db,
            user=USER,
            password=SecretStr(PASSWORD),
            timeout_s=20,
        )
        return settings.model_copy(update=changes)


def variables(settings: MongoSettings) -> dict[str, str]:
    """Return the environment variables by which a server or command of CTS keeps its records there."""
    return {
        "CTS_RECORDS": "mongo",
        "CTS_MONGO__HOST": settings.host,
        "CTS_MONGO__DB": settings.db,
        "CTS_MONGO__USER": settings.user,
        "CTS_MONGO__PASSWORD": settings.password.get_secret_value(),
    }


@pytest.fixture(scope="session")
def mongo(tmp_path_factory) -> Iterator[MongoServer]:
    """Start one server for all tests; each test uses a database of its own."""
    with or_skip():
        server = MongoServer(tmp_path_factory.mktemp("mongo"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def mongo_settings(mongo) -> Iterator[MongoSettings]:
    """Return the settings of a store in a database of this test."""
    db = f"test_{uuid.uuid4().hex}"
    yield mongo.settings(db)
    with mongo.client() as client:
        client.drop_database(db)


@pytest.fixture
def db(mongo: MongoServer, mongo_settings: MongoSettings) -> Iterator[Database]:
    """Return that database, to bypass the store."""
    with mongo.client() as client:
        yield client[mongo_settings.db]


@pytest.fixture
def on_mongo(mongo_settings: MongoSettings) -> dict[str, str]:
    """Return the environment variables by which a server or command of CTS keeps its records on MongoDB."""
    return variables(mongo_settings)
