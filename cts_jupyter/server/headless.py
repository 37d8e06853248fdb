"""``jupyter cts``: a server for CTS alone, with Jupyter's login but without notebooks, kernels, terminals or files."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any, cast

# jsonschema, which jupyter_server imports, checks internationalized addresses by it where it can be imported, and it builds its
# grammars for two seconds. This process checks none.
sys.modules.setdefault("rfc3987_syntax", cast("Any", None))

from jupyter_server.serverapp import ServerApp, aliases, flags
from traitlets import Bool, Unicode, default

from cts_core.config import host
from cts_core.config.env_file import use_env_file
from cts_core.config.load import check_platform, load_settings
from cts_core.config.settings import Preset
from cts_core.errors import ConfigError
from cts_core.log_context import format_as_json
from cts_core.version import VERSION
from cts_jupyter.server.extension import PREFIXES, CTSExtension, local_url

_DESCRIPTION = """The CDM Task Service alone: its REST API below /cts, and nothing else.

    Containers run over checksummed files as they do from a notebook, for programs and for notebooks elsewhere.
    Every other path answers 404: there are no kernels, terminals, files or pages.
    """
_EXAMPLES = """
jupyter cts                          # serve the API on http://localhost:8888/cts
jupyter cts --port 9000 --home /data/cts
jupyter cts --allow-root             # as root, such as in a container
JUPYTER_TOKEN=... jupyter cts --ip 0.0.0.0 --certfile cert.pem --keyfile key.pem
CTS_CONFIG=/etc/cts/cts.toml jupyter cts --ip 0.0.0.0    # a service for many, see docs/how-to/deploy-the-service.md
CTS_CONFIG=/etc/cts/refdata.toml jupyter cts --refdata   # stages its reference data at the site kbase
"""
STOP_SECONDS = 30.0
"""How long the server may take to stop once its requests have ended."""
OTHER_FILES = 1000
"""Files and connections that a server may have open besides its event streams."""
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
    classes = [CTSExtension]  # noqa: RUF012 - as traitlets requires it
    subcommands: dict[str, Any] = {}  # noqa: RUF012 - the same
    aliases = {  # noqa: RUF012 - the same
        **{name: aliases[name] for name in _KEPT_ALIASES},
        "base-url": "ServerApp.base_url",
        "preset": "CTSExtension.preset",
        "home": "CTSExtension.home",
        "owner": "CTSExtension.owner",
        "env-file": "HeadlessApp.env_file",
    }
    flags = {  # noqa: RUF012 - the same
        **{name: flags[name] for name in _KEPT_FLAGS},
        "refdata": (
            {"CTSExtension": {"preset": Preset.REFDATA.value}},
            "Serve the service that stages reference data, in the place of CTS.",
        ),
    }
    default_services = ("auth", "security")  # type: ignore[assignment]  # declared as the tuple of all
    default_url = Unicode("/cts").tag(config=True)
    env_file = Unicode(help="File of variables to read; those of the environment count more.").tag(
        config=True
    )
    exit_status = 0
    _uses_jupyter_login = True
    open_browser = Bool(default_value=False).tag(config=True)
    no_browser_open_file = Bool(default_value=True).tag(config=True)
    answer_yes = Bool(default_value=True).tag(config=True)

    @default("terminals_enabled")
    def _no_terminals(self) -> bool:
        return False

    def find_server_extensions(self) -> None:
        """Look for no other extensions."""

    def init_server_extensions(self) -> None:
        """Read the file of variables, then load CTS, whatever other extensions the configuration names."""
        if self.env_file:
            try:
                use_env_file(Path(self.env_file))
            except ConfigError as e:
                self.log.critical("%s", e)
                self.exit(1)
        self.jpserver_extensions = {"cts_jupyter": True}
        super().init_server_extensions()

    def init_webapp(self) -> None:
        """Create the web application, then remove every rule of Jupyter's; extensions add theirs later."""
        try:
            settings = load_settings(CTSExtension(parent=self).load_overrides())
        except ConfigError as e:
            self.log.critical("%s", e)
            self.exit(1)
        if settings.log_format == "json":
            format_as_json(self.log, settings.group)
        self._uses_jupyter_login = settings.identity == "jupyter"
        self._raise_file_limit(settings.limits.all_streams)
        if settings.root_path:
            self.base_url = settings.root_path
        super().init_webapp()
        self.web_app.settings[PREFIXES] = settings.prefixes
        if not self._uses_jupyter_login:
            # Otherwise Jupyter logs a URL with its token, which opens nothing here.
            self.identity_provider.token_generated = False
        self.web_app.wildcard_router.rules.clear()

    def _raise_file_limit(self, streams: int) -> None:
        required = streams + OTHER_FILES
        allowed = host.allow_open_files(required)
        if allowed < required:
            self.log.warning(
                "limits.all_streams (%d) is more than this process can serve, which may have %d files open: "
                "lower it, or start with 'ulimit -n %d' or LimitNOFILE=%d",
                streams, allowed, required, required,
            )  # fmt: skip

    def running_server_info(self, kernel_count: bool = True) -> str:  # noqa: ARG002, FBT001, FBT002 - Jupyter's signature
        """Return the lines that are logged at start: the service's URL, and how to authenticate."""
        where = f"CTS {VERSION} is running at {local_url(self)}"
        if not self._uses_jupyter_login:
            return where
        return (
            f"{where}\n"
            "Send a token as 'Authorization: Bearer <token>'. Set JUPYTER_TOKEN before the start to choose it; "
            "else one is made at each start, and 'jupyter server list' shows it."
        )

    @property
    def _extension(self) -> CTSExtension:
        return cast("CTSExtension", self.extension_manager.extension_points["cts_jupyter"].app)

    async def _post_start(self) -> None:
        """Exit with status 1 if CTS could not start, so that a supervisor sees it and starts the process again."""
        await super()._post_start()  # type: ignore[no-untyped-call]  # Jupyter gives it no types
        if not self._extension.is_serving:
            self.exit_status = 1
            self.stop()

    def _signal_stop(self, sig: Any, frame: Any) -> None:  # noqa: ANN401, ARG002 - Jupyter's signature
        """Drain, then stop. A second signal ends the process at once, by its default action."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        self.io_loop.add_callback_from_signal(self._drain)

    async def _drain(self) -> None:
        self.log.info("Stopping: no new requests are taken")
        self.http_server.stop()
        await self._extension.drain()
        self.io_loop.call_later(STOP_SECONDS, self._exit_now)
        self.stop()

    def _exit_now(self) -> None:
        self.log.critical("Stopping took more than %.0f s: the process ends as it is", STOP_SECONDS)
        os._exit(1)


def main(argv: list[str] | None = None) -> None:
    """Run the service until it is stopped."""
    try:
        check_platform()
    except ConfigError as e:
        sys.exit(str(e))
    HeadlessApp.launch_instance(argv)
    sys.exit(HeadlessApp.instance().exit_status)
