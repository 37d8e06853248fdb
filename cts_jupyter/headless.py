"""``jupyter cts``: CTS alone, with Jupyter's login but without notebooks, kernels, terminals or files."""

from __future__ import annotations

import sys
from typing import Any

from jupyter_server.serverapp import ServerApp, aliases, flags
from traitlets import Bool, Unicode, default

from cts_core.config import check_platform
from cts_core.errors import ConfigError
from cts_core.version import VERSION
from cts_jupyter.extension import CTSExtension, local_url

_DESCRIPTION = """The CDM Task Service alone: its REST API below /cts, and nothing else.

    Containers run over checksummed files as they do from a notebook, for programs and for notebooks elsewhere.
    Every other path answers 404: there are no kernels, terminals, files or pages.
    """
_EXAMPLES = """
jupyter cts                          # serve the API on http://localhost:8888/cts
jupyter cts --port 9000 --home /data/cts
JUPYTER_TOKEN=... jupyter cts --ip 0.0.0.0 --certfile cert.pem --keyfile key.pem
"""
_KEPT_ALIASES = (
    "log-level",
    "config",
    "ip",
    "port",
    "port-retries",
    "keyfile",
    "certfile",
    "client-ca",
)
_KEPT_FLAGS = ("debug", "show-config", "show-config-json", "generate-config", "y", "allow-root")


class HeadlessApp(ServerApp):
    """A Jupyter server that serves CTS and nothing else."""

    name = "jupyter-cts"
    version = VERSION
    description = _DESCRIPTION
    examples = _EXAMPLES
    classes = [CTSExtension]  # noqa: RUF012 - traitlets' way to say it
    subcommands: dict[str, Any] = {}  # noqa: RUF012 - the same
    aliases = {  # noqa: RUF012 - the same
        **{name: aliases[name] for name in _KEPT_ALIASES},
        "base-url": "ServerApp.base_url",
        "preset": "CTSExtension.preset",
        "home": "CTSExtension.home",
        "owner": "CTSExtension.owner",
    }
    flags = {name: flags[name] for name in _KEPT_FLAGS}  # noqa: RUF012 - the same
    default_services = ("auth", "security")  # type: ignore[assignment]  # declared as the tuple of all
    default_url = Unicode("/cts").tag(config=True)
    open_browser = Bool(default_value=False).tag(config=True)
    no_browser_open_file = Bool(default_value=True).tag(config=True)
    answer_yes = Bool(default_value=True).tag(config=True)

    @default("terminals_enabled")
    def _no_terminals(self) -> bool:
        return False

    def find_server_extensions(self) -> None:
        """Look for no other extensions."""

    def init_server_extensions(self) -> None:
        """Load CTS, whatever other extensions the configuration names."""
        self.jpserver_extensions = {"cts_jupyter": True}
        super().init_server_extensions()

    def init_webapp(self) -> None:
        """Make the application, then take out every rule: extensions add theirs later."""
        super().init_webapp()
        self.web_app.wildcard_router.rules.clear()

    def running_server_info(self, kernel_count: bool = True) -> str:  # noqa: ARG002, FBT001, FBT002 - Jupyter's signature
        """Where the service is, and how to get in."""
        return (
            f"CTS {VERSION} is running at {local_url(self)}\n"
            "Send a token as 'Authorization: Bearer <token>'. Set JUPYTER_TOKEN before the start to choose it; "
            "else one is made at each start, and 'jupyter server list' shows it."
        )


def main(argv: list[str] | None = None) -> None:
    """Run the service until it is stopped."""
    try:
        check_platform()
    except ConfigError as e:
        sys.exit(str(e))
    HeadlessApp.launch_instance(argv)
