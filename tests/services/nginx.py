"""Debian's nginx as the reverse proxy in front of a service, which strips a prefix or keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.services.debian import unpack
from tests.services.server import ServerProcess, install_folder, is_listening, or_skip

# What an operator does not set stays nginx's default: it buffers, and speaks HTTP/1.0 to the service.
_CONFIG = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  scgi_temp_path {folder}/scgi;
  uwsgi_temp_path {folder}/uwsgi;
  server {{
    listen 127.0.0.1:{port};
    location {prefix}/ {{
      proxy_pass http://127.0.0.1:{target}{passed};
      proxy_set_header Host $host;
      proxy_read_timeout {read_seconds};
    }}
  }}
}}
"""


def install() -> Path:
    """Return the program. Raises MissingError."""
    with install_folder("nginx") as folder:
        program = folder / "usr" / "sbin" / "nginx"
        if not program.exists():
            unpack(folder, folder, "nginx")
        return program


def rewriting_proxy(
    folder: Path, port: int, target: int, prefix: str, *, strips: bool, read_seconds: int = 60
) -> ServerProcess:
    """Return a proxy on ``port``, to be started, that passes requests below ``prefix`` on to the port ``target``.

    It gives up a service that is silent for ``read_seconds``.
    """
    folder.mkdir(parents=True)
    config = folder / "nginx.conf"
    passed = "/" if strips else ""
    config.write_text(
        _CONFIG.format(
            folder=folder,
            port=port,
            target=target,
            prefix=prefix,
            passed=passed,
            read_seconds=read_seconds,
        )
    )
    command = [str(install()), "-c", str(config), "-p", str(folder), "-e", "stderr"]
    return ServerProcess(command, folder, lambda: is_listening(port))


@pytest.fixture(scope="session")
def nginx() -> Path:
    """Return the program nginx."""
    with or_skip():
        return install()
