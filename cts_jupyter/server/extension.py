"""The Jupyter server extension: starts the engine with the server, serves it below ``/cts``, stops it.

With the preset ``remote`` there is no engine: what comes below ``/cts`` is forwarded. With ``refdata`` the service that
stages reference data stands in its place.
"""

from __future__ import annotations

import gc
import logging
import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from jupyter_server.extension.application import ExtensionApp
from jupyter_server.serverapp import WILDCARD_IPS, ServerApp
from jupyter_server.utils import url_path_join
from traitlets import Dict, Unicode

from cts_core.config.load import check_platform, load_settings
from cts_core.config.settings import Preset, Settings
from cts_core.errors import ConfigError, CTSError
from cts_core.log_context import format_as_json

if TYPE_CHECKING:
    from cts_core.identity.identity import Identity
    from cts_jupyter.server.http.call import Core
    from cts_jupyter.server.http.lifecycle import Service
    from cts_jupyter.server.proxy.forwarder import Forwarder

_BELOW = r"/cts(?:/.*)?"
_LOGGERS = ("cts_core", "cts_jupyter")


class CTSExtension(ExtensionApp):
    """Runs containers over checksummed files: the CDM Task Service in this server.

    What is set here overrides the variables ``CTS_…``, which override ``cts.toml``.
    """

    name = "cts_jupyter"

    preset = Unicode(
        help="How CTS stands: embedded (one person, one machine), service, remote (forwards elsewhere), or "
        "refdata (stages reference data)."
    ).tag(config=True)
    home = Unicode(help="Folder of records, objects and running jobs.").tag(config=True)
    owner = Unicode(help="Whose jobs these are; the login's name if unset.").tag(config=True)
    overrides = Dict(
        help="Any other settings by name, as in cts.toml: {'max_cpu_hours': 10, 'local': {'cpus': 4}}."
    ).tag(config=True)

    _cts_settings: Settings | None = None
    _failure = "CTS could not start: the server's log says why"
    _service: Service | None = None
    _forwarder: Forwarder | None = None
    _core: Core | None = None
    _file: Path | None = None
    _spares_collector = False

    def load_overrides(self) -> dict[str, Any]:
        """What the Jupyter configuration says."""
        named = {"preset": self.preset, "home": self.home, "owner": self.owner}
        return {**self.overrides, **{name: value for name, value in named.items() if value}}

    def initialize_settings(self) -> None:
        """Have our loggers speak through Jupyter's, and make what all requests share."""
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            logger.parent = self.log
            logger.setLevel(self.log.level)
        try:
            check_platform()
            self._cts_settings = load_settings(self.load_overrides())
        except ConfigError as e:
            self._failure = str(e)
            self.log.error("%s", e)  # noqa: TRY400 - one plain line, no trace
        if sys.platform == "win32":
            return
        self._kernel_token = secrets.token_urlsafe(32)
        # Only now: the engine's modules need what Windows has not.
        if self._cts_settings is not None and self._cts_settings.preset is Preset.REMOTE:
            self._forward(self._cts_settings)
            return
        from cts_jupyter.server.http.lifecycle import SETTING, Service  # noqa: PLC0415 - see above
        from cts_jupyter.server.routes import refdata_service, table  # noqa: PLC0415 - see above

        self._service = Service(refdata_service.ROUTES if self._stages_refdata else table.ROUTES)
        self.settings[SETTING] = self._service

    @property
    def _stages_refdata(self) -> bool:
        return self._cts_settings is not None and self._cts_settings.preset is Preset.REFDATA

    def _forward(self, settings: Settings) -> None:
        from cts_jupyter.server.proxy import forwarder  # noqa: PLC0415 - as above

        serverapp = cast("ServerApp", self.serverapp)
        self._forwarder = forwarder.Forwarder(
            settings.remote,
            _identity(settings, serverapp, self._kernel_token),
            origins=settings.cors_origins,
            root=url_path_join(serverapp.base_url, "cts"),
        )
        self.settings[forwarder.SETTING] = self._forwarder

    def initialize_handlers(self) -> None:
        """Serve below ``/cts``; requests wait until the engine has started."""
        if self._forwarder is not None:
            from cts_jupyter.server.proxy.handler import ForwardHandler  # noqa: PLC0415 - as above

            self.handlers.append((_BELOW, ForwardHandler))
        if self._service is not None:
            from cts_jupyter.server.http.handler import CTSHandler  # noqa: PLC0415 - as above

            self.handlers.append((_BELOW, CTSHandler))

    async def _start_jupyter_server_extension(self, serverapp: ServerApp) -> None:
        """Start the engine. What is wrong is told, and Jupyter goes on without it."""
        settings = self._cts_settings
        if settings is not None and settings.log_format == "json":
            for logger in (self.log, serverapp.log):
                format_as_json(logger, settings.group)
        if self._forwarder is not None and settings is not None:
            self._leave_file(serverapp, service=settings.remote.url)
            self.log.info(
                "CTS forwards from below %s to %s", self._forwarder.root, settings.remote.url
            )
        if self._service is None:
            return
        try:
            if settings is not None:
                await self._run_core(self._service, settings, serverapp)
        except (ConfigError, CTSError, OSError) as e:
            self._failure = str(e)
            self.log.error("%s", e)  # noqa: TRY400 - one plain line, no trace
        finally:
            if self._core is None:
                self._service.fail(self._failure)

    async def _run_core(self, service: Service, settings: Settings, serverapp: ServerApp) -> None:
        from cts_core.engine.engine import Engine  # noqa: PLC0415 - as above
        from cts_core.refdata_service.service import RefdataService  # noqa: PLC0415 - as above

        kind: type[Engine | RefdataService] = RefdataService if self._stages_refdata else Engine
        core = kind.from_settings(settings, _identity(settings, serverapp, self._kernel_token))
        await core.start()
        self._core = core
        self._spare_collector()
        service.start(core)
        path = url_path_join(serverapp.base_url, "cts")
        if core.identity.uses_host_login:
            self._leave_file(serverapp)
            self.log.info(
                "CTS serves %s's jobs from %s below %s", settings.owner, settings.home, path
            )
        elif isinstance(core, RefdataService):
            chosen = settings.refdata
            told = "Reference data is staged in %s for the CTS at %s, asked for below %s"
            self.log.info(told, chosen.local_path, chosen.cts_url, path)
        else:
            self.log.info("CTS serves the users of %s below %s", settings.kbase.auth_url, path)

    def _spare_collector(self) -> None:
        """Have Python's collector look no more at what the server is made of, which stays.

        Each of its full passes looks at all that is left, and holds the event loop meanwhile. A process that has
        seen to it by itself is left alone.
        """
        self._spares_collector = not gc.get_freeze_count()
        if self._spares_collector:
            gc.collect()
            gc.freeze()

    def _leave_file(self, serverapp: ServerApp, service: str | None = None) -> None:
        from cts_jupyter.discovery import ServerFile, write_server_file  # noqa: PLC0415 - as above

        certificate = serverapp.certfile
        content = ServerFile(
            url=local_url(serverapp),
            token=self._kernel_token,
            pid=os.getpid(),
            certificate=Path(certificate).absolute() if certificate else None,
            service=service,
        )
        try:
            self._file = write_server_file(Path(serverapp.runtime_dir), content)
        except OSError as e:
            self.log.warning("Kernels of this server will not find CTS by themselves: %s", e)

    @property
    def is_serving(self) -> bool:
        """Whether CTS has started."""
        return self._core is not None or self._forwarder is not None

    async def drain(self) -> None:
        """Take no more requests, and let those under way end, for at most ``drain_s`` seconds."""
        if self._service is not None and self._core is not None:
            await self._service.drain(self._core.settings.drain_s)

    async def stop_extension(self) -> None:
        """Stop serving, then the engine. Containers go on, and the next start finds them."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)
            self._file = None
        if self._forwarder is not None:
            await self._forwarder.close()
        if self._service is not None:
            await self._service.close()
        if self._core is not None:
            core, self._core = self._core, None
            await core.stop()
            if self._spares_collector:
                gc.unfreeze()


def _identity(settings: Settings, serverapp: ServerApp, token: str) -> Identity:
    """Who may come in; ``token`` is the kernels' where Jupyter says who does."""
    from cts_core.engine import adapters  # noqa: PLC0415 - as above
    from cts_core.identity.jupyter import JupyterIdentity  # noqa: PLC0415 - as above

    if settings.identity == "kbase":
        return adapters.kbase_identity(settings)
    provider = type(serverapp.identity_provider).__module__
    return JupyterIdentity(
        settings.owner, token, hub_names=provider.partition(".")[0] == "jupyterhub"
    )


def local_url(serverapp: ServerApp) -> str:
    """Where a process of this machine reaches the server."""
    scheme = "https" if serverapp.certfile else "http"
    host = serverapp.ip
    if not host or host in WILDCARD_IPS or host == "localhost":
        host = "127.0.0.1"
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}:{serverapp.port}{url_path_join(serverapp.base_url, 'cts')}"
