"""Starts the servers that a service depends on, and prints how to run a service on them: ``make services``."""

from __future__ import annotations

import shlex
import signal
import sys
import tempfile
import threading
from pathlib import Path

from tests.services import kafka, minio, mongo
from tests.services.server import MissingError
from tests.services.together import ADMIN_ROLES, ServiceStack, started_stack

_PORT = 8899
_ASK = "curl -sf --retry 60 --retry-delay 1 --retry-connrefused"
"""Asks again until the service is up."""


def instructions(services: ServiceStack, port: int = _PORT) -> str:
    """Return the lines of a shell that start a service on these servers, and ask it."""
    admin, user = services.auth.add("admin", *ADMIN_ROLES), services.auth.add("ana")
    here = f"http://127.0.0.1:{port}/cts"
    programs = Path(sys.executable).parent
    lines = [f"export {name}={shlex.quote(value)}" for name, value in services.environ().items()]
    return "\n".join(
        [
            "# Paste this into another shell; it starts a service on these servers.",
            "# Its commands, such as jupyter and cts, are those of this checkout:",
            f'export PATH={shlex.quote(str(programs))}:"$PATH"',
            *lines,
            f"jupyter cts --port={port} --ServerApp.port_retries=0 --allow-root &",
            "",
            "# Tokens of an admin and of a user without roles, good for a day:",
            f"export ADMIN={admin} ANA={user}",
            f'{_ASK} -H "Authorization: Bearer $ANA" {here}/whoami',
            f'{_ASK} -H "Authorization: Bearer $ADMIN" {here}/ready',
            "",
            f"# S3 has the buckets data and logs. Logs and data of the servers: {services.folder}",
            "# Ctrl-C here ends the servers, and removes all that was in them.",
        ]
    )


def main() -> None:
    """Run until the process gets SIGINT or SIGTERM."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    print(
        "Building what is missing, and starting MongoDB, Kafka, S3 and KBase's auth ...",
        file=sys.stderr,
    )
    try:
        for service in (mongo, kafka, minio):
            service.install()
        with tempfile.TemporaryDirectory(prefix="cts-services-") as folder:
            # PostgreSQL runs as another user, who must be able to enter the folder.
            Path(folder).chmod(0o755)
            with started_stack(Path(folder)) as services:
                print(instructions(services), flush=True)
                stop.wait()
    except MissingError as e:
        sys.exit(f"These servers cannot run here. {e}")


if __name__ == "__main__":
    main()
