"""A real HTCondor pool on loopback: collector, negotiator, schedd and one startd, from Debian sid.

The node's memory and cpus are made up, and divided into dynamic slots as jobs request. Everything that takes minutes in
a real pool takes seconds here. The pool's folder has the same path inside and outside. The rules by which the pool holds
containers or keeps them waiting apply to special users only. Match password authentication is off: with it, the schedd
could not notice that a startd was restarted. Tokens are valid for the user ``cts``; root in the pool's own folder may do
anything. Containers of apptainer run on its node as that user: the pool enters its root folder by pivot_root, so that
apptainer can change the root folder again.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import shlex
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.services.server import (
    START_SECONDS,
    MissingError,
    free_port,
    install_folder,
    or_skip,
)
from tests.services.sid import NamespaceServer, enter, install_root, require_root, run

PACKAGES = ("condor", "apptainer", "ca-certificates", "procps", "python3")
USER = "cts"
DOMAIN = "pool.test"
CPUS, MEMORY_MIB = 128, 262_144
"""The size of the one node, unless other cpus are given."""
INITIALDIR = "/tmp"
"""A folder that exists on both sides (the pool's is ``work``), since the bindings check that it exists on theirs."""

_SECURITY = """
UID_DOMAIN = {domain}
TRUST_DOMAIN = {domain}
COLLECTOR_HOST = 127.0.0.1:{port}
NO_DNS = True
DEFAULT_DOMAIN_NAME = {domain}
ENABLE_IPV6 = False
SEC_DEFAULT_AUTHENTICATION = REQUIRED
SEC_DEFAULT_INTEGRITY = REQUIRED
SEC_DEFAULT_ENCRYPTION = OPTIONAL
"""
_CLIENT = (
    _SECURITY
    + """
SEC_DEFAULT_AUTHENTICATION_METHODS = {method}
SEC_CLIENT_AUTHENTICATION_METHODS = {method}
{secret}
"""
)
_SECRETS = {
    "IDTOKENS": "SEC_TOKEN_DIRECTORY = {}/tokens",
    "PASSWORD": "SEC_PASSWORD_FILE = {}/passwords.d/POOL",
}
_POOL = (
    _SECURITY
    + """
LOCAL_DIR = /mnt
LOCAL_CONFIG_FILE =
LOCAL_CONFIG_DIR =
REQUIRE_LOCAL_CONFIG_FILE = False
RELEASE_DIR = /usr
LIB = /usr/lib/condor
LIBEXEC = /usr/libexec/condor
BIN = /usr/bin
SBIN = /usr/sbin
ETC = /mnt
RUN = /mnt/run
LOG = /mnt/log
LOCK = /mnt/lock
SPOOL = {folder}/spool
EXECUTE = /mnt/execute
CONDOR_HOST = 127.0.0.1
NETWORK_INTERFACE = 127.0.0.1
BIND_ALL_INTERFACES = False
FILESYSTEM_DOMAIN = {domain}
CONDOR_ADMIN =
COLLECTOR_NAME = test
DAEMON_LIST = MASTER, COLLECTOR, NEGOTIATOR, SCHEDD, STARTD
USE_SHARED_PORT = True
MASTER_BACKOFF_CONSTANT = 1
MASTER_BACKOFF_CEILING = 2

SEC_DEFAULT_AUTHENTICATION_METHODS = FS, IDTOKENS, PASSWORD
SEC_CLIENT_AUTHENTICATION_METHODS = FS, IDTOKENS
FS_LOCAL_DIR = /mnt/fsauth
SEC_ENABLE_MATCH_PASSWORD_AUTHENTICATION = False
SEC_PASSWORD_DIRECTORY = /mnt/passwords.d
SEC_PASSWORD_FILE = /mnt/passwords.d/POOL
SEC_TOKEN_SYSTEM_DIRECTORY = /mnt/tokens.sys
SEC_TOKEN_POOL_SIGNING_KEY_FILE = /mnt/passwords.d/POOL
ALLOW_READ = *
ALLOW_WRITE = *
ALLOW_DAEMON = condor@*/127.0.0.1 root@*/127.0.0.1
ALLOW_NEGOTIATOR = condor@*/127.0.0.1 root@*/127.0.0.1
ALLOW_ADMINISTRATOR = condor@*/127.0.0.1 root@*/127.0.0.1
QUEUE_SUPER_USERS = root, condor

NEGOTIATOR_INTERVAL = 1
NEGOTIATOR_CYCLE_DELAY = 0
NEGOTIATOR_MIN_INTERVAL = 0
SCHEDD_INTERVAL = 1
SCHEDD_MIN_INTERVAL = 0
UPDATE_INTERVAL = 5
POLLING_INTERVAL = 1
COLLECTOR_UPDATE_INTERVAL = 5
JOB_START_DELAY = 0
RECONNECT_BACKOFF_CEILING = 3
JOB_START_COUNT = 100
STARTER_UPDATE_INTERVAL = 1
SHADOW_QUEUE_UPDATE_INTERVAL = 1
PERIODIC_EXPR_INTERVAL = 1
PERIODIC_EXPR_TIMESLICE = 0.5
CLAIM_WORKLIFE = 1200
# A slot may be claimed for a job that was just removed, without the schedd knowing: it is free after 30 s.
ALIVE_INTERVAL = 5
MAX_CLAIM_ALIVES_MISSED = 6
FILETRANSFER_PLUGINS = /mnt/fetch
RUNBENCHMARKS = False
MAX_JOBS_RUNNING = 200
MAX_JOBS_PER_SUBMISSION = 1000

CLIENTGROUP = "cts"
STARTD_ATTRS = $(STARTD_ATTRS) CLIENTGROUP
NUM_CPUS = {cpus}
MEMORY = {memory}
DISK = 500000000
NUM_SLOTS = 1
NUM_SLOTS_TYPE_1 = 1
SLOT_TYPE_1 = 100%
SLOT_TYPE_1_PARTITIONABLE = True
CONSUMPTION_POLICY = True
START = True
SUSPEND = False
PREEMPT = False
KILL = False
WANT_SUSPEND = False
WANT_VACATE = False
RANK = 0
use POLICY : HOLD_IF_MEMORY_EXCEEDED
MEMORY_EXCEEDED = TARGET.AccountingGroup =?= "limited" && TARGET.CTSContainerNumber == 0 && MemoryUsage > Memory
SYSTEM_PERIODIC_HOLD_NAMES = memory runtime
SYSTEM_PERIODIC_HOLD_memory = AccountingGroup == "limited" && CTSContainerNumber == 1 && MemoryUsage > RequestMemory
SYSTEM_PERIODIC_HOLD_runtime = AccountingGroup == "limited" && CTSContainerNumber == 2 && RemoteWallClockTime > 1
one_at_a_time_LIMIT = 1
BASE_CGROUP =
USE_PID_NAMESPACES = False
MOUNT_UNDER_SCRATCH =
STARTER_ALLOW_RUNAS_OWNER = True
DISCARD_SESSION_KEYRING_ON_STARTUP = False
"""
)
_T = TypeVar("_T")
_COMM = 15
"""The characters of a process's name that the kernel keeps."""
_FOLDERS = ("log", "lock", "run", "spool", "execute")
_PRIVATE = ("passwords.d", "tokens.sys", "tokens")
_OPEN = ("fsauth", "work")
_RUN = """
{enter} chown condor {folders}
mount --bind {folder}/work {root}/tmp
mount --rbind /sys {root}/sys
mkdir -p {root}{folder}
mount --bind {folder} {root}{folder}
[ -e {folder}/tokens/{user} ] || {enter} condor_token_create -identity {user}@{domain} -key POOL > {folder}/tokens/{user}
chmod 600 {folder}/tokens/{user}
mount --rbind {root} {root}
cd {root}
pivot_root . media
umount --lazy /media
cd /
exec env {config} condor_master -f
"""


def install() -> Path:
    """Return the folder with HTCondor; the first call takes about a minute. Raises MissingError."""
    require_root("The HTCondor pool")
    if importlib.util.find_spec("htcondor2") is None:
        raise MissingError("HTCondor's bindings are not here: pip install 'cts-jupyter[htcondor]'")
    with install_folder("htcondor") as folder:
        root = folder / "root"
        if not root.exists():
            install_root(folder, *PACKAGES)
            (root / "etc/hosts").touch()
        if f"\n{USER}:" not in (root / "etc/passwd").read_text():
            run(["chroot", str(root), "useradd", "--no-create-home", USER])
    return root


class CondorPool(NamespaceServer):
    """The pool. Its queue survives a kill and a new start."""

    def __init__(self, folder: Path, *, cpus: int = CPUS) -> None:
        root = install()
        self.port = free_port()
        self.pool = folder / "pool"
        modes = dict.fromkeys(_FOLDERS, 0o755) | dict.fromkeys(_PRIVATE, 0o700)
        for name, mode in (modes | dict.fromkeys(_OPEN, 0o1777)).items():
            (self.pool / name).mkdir(parents=True)
            (self.pool / name).chmod(mode)
        key = self.pool / "passwords.d" / "POOL"
        key.write_bytes(secrets.token_hex(32).encode())
        key.chmod(0o600)
        common = {"domain": DOMAIN, "port": self.port, "folder": self.pool}
        (self.pool / "condor_config").write_text(
            _POOL.format(**common, cpus=cpus, memory=MEMORY_MIB)
        )
        shutil.copy(Path(__file__).with_name("condor_fetch.py"), self.pool / "fetch")
        (self.pool / "fetch").chmod(0o755)
        config = "CONDOR_CONFIG=/mnt/condor_config"
        script = _RUN.format(
            enter=f"chroot {shlex.quote(str(root))} env {config}",
            config=config,
            folders=" ".join(f"/mnt/{name}" for name in _FOLDERS),
            folder=shlex.quote(str(self.pool)),
            root=shlex.quote(str(root)),
            user=USER,
            domain=DOMAIN,
        )
        super().__init__(enter(root, self.pool, script), folder, self._is_ready)

    def client_config(self, method: str = "IDTOKENS") -> Path:
        """Return the configuration file of a client that authenticates by this method."""
        file = self.folder / f"client.{method.lower()}"
        secret = _SECRETS[method].format(self.pool)
        file.write_text(_CLIENT.format(domain=DOMAIN, port=self.port, method=method, secret=secret))
        return file

    def _is_ready(self) -> bool:
        import htcondor2  # noqa: PLC0415 - it reads its configuration when it is imported

        try:
            collector = htcondor2.Collector(f"127.0.0.1:{self.port}")
            ads = collector.query(htcondor2.AdType.Any, projection=["MyType"])
        except htcondor2.HTCondorException:
            return False
        return {"Scheduler", "Machine"} <= {ad["MyType"] for ad in ads}

    def schedd(self) -> Any:
        """Return the schedd, with the credentials of this process's configuration."""
        import htcondor2  # noqa: PLC0415 - it reads its configuration when it is imported

        collector = htcondor2.Collector(f"127.0.0.1:{self.port}")
        return htcondor2.Schedd(collector.locate(htcondor2.DaemonType.Schedd))

    @contextlib.contextmanager
    def schedd_with(self, name: str, value: str) -> Iterator[None]:
        """Change a value of the schedd's configuration within the context."""
        import htcondor2  # noqa: PLC0415 - as above

        file = self.pool / "condor_config"
        original = file.read_text()
        schedd = htcondor2.Collector(f"127.0.0.1:{self.port}").locate(htcondor2.DaemonType.Schedd)

        def current() -> str:
            return self.retry(lambda: htcondor2.RemoteParam(schedd)[name])

        before = current()

        def configure(content: str, expected: str) -> None:
            file.write_text(content)
            os.kill(self.daemon("condor_schedd"), signal.SIGHUP)
            deadline = time.monotonic() + START_SECONDS
            while current() != expected:
                assert time.monotonic() < deadline, f"{name} is not {expected}"
                time.sleep(0.1)

        configure(f"{original}\n{name} = {value}\n", value or "Not defined")
        try:
            yield
        finally:
            configure(original, before)

    def usage(self) -> dict[str, float]:
        """Return, by submitter, the seconds that the negotiator has counted."""
        import htcondor2  # noqa: PLC0415 - as above

        collector = htcondor2.Collector(f"127.0.0.1:{self.port}")
        ads = collector.query(htcondor2.AdType.Accounting)
        return {ad["Name"]: ad.get("AccumulatedUsage", 0.0) for ad in ads}

    def ads(self, constraint: str, attributes: list[str]) -> list[Any]:
        """Return these attributes of all matching ads, in the queue and in the history."""

        def query() -> list[Any]:
            schedd = self.schedd()
            queue = schedd.query(constraint, attributes)
            return [*queue, *schedd.history(constraint, attributes)]

        return self.retry(query)

    def retry(self, call: Callable[[], _T]) -> _T:
        """Repeat a call until it succeeds: a restarted schedd refuses the first call of each client that knew it before."""
        import htcondor2  # noqa: PLC0415 - as above

        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return call()
            except htcondor2.HTCondorException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def stop(self) -> None:
        """Kill the pool: there is nothing to save, and its daemons would take long to stop."""
        self.kill()

    def daemon(self, name: str) -> int:
        """Return the process id of a daemon, such as ``condor_schedd``, which a test may kill or freeze.

        Raises ProcessLookupError if it does not run.
        """
        parents = [self.process.pid] if self.process else []
        while parents:
            parent = parents.pop()
            with contextlib.suppress(OSError):
                tasks = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
                for child in map(int, tasks):
                    if Path(f"/proc/{child}/comm").read_text().strip() == name[:_COMM]:
                        return child
                    parents.append(child)
        raise ProcessLookupError(name)


@pytest.fixture(scope="session")
def condor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CondorPool]:
    """Start one pool for all tests, and make this process its client."""
    with or_skip():
        pool = CondorPool(tmp_path_factory.mktemp("condor"))
    # The bindings read it when they are first imported.
    os.environ["CONDOR_CONFIG"] = str(pool.client_config())
    pool.start()
    yield pool
    pool.stop()
