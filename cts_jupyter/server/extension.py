"""The Jupyter server extension: starts the engine with the server, serves it below ``/cts``, stops it.

With the preset ``remote`` there is no engine: requests below ``/cts`` are forwarded. With ``refdata`` the service that
stages reference data takes the place of the engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from jupyter_server.extension.application import ExtensionApp
from jupyter_server.serverapp import WILDCARD_IPS, ServerApp
from jupyter_server.utils import url_path_join, urlencode_unix_socket_path
from traitlets import Dict, Unicode

from cts_core.clock import utc_now
from cts_core.concurrency import cancel_and_wait
from cts_core.config.load import HUB_USER, check_platform, load_settings
from cts_core.config.sections import LimitsSettings
from cts_core.config.settings import Preset, Settings
from cts_core.errors import ConfigError, CTSError
from cts_core.log_context import format_as_json, handled_level
from cts_jupyter.server.garbage import GarbageCollection

if TYPE_CHECKING:
    from tornado.web import RequestHandler

    from cts_core.engine.jobs import Jobs
    from cts_core.identity.identity import Identity
    from cts_jupyter.server.http.bodies import Bodies
    from cts_jupyter.server.http.call import Core
    from cts_jupyter.server.http.lifecycle import Lifecycle
    from cts_jupyter.server.kernel_socket import KernelSocket
    from cts_jupyter.server.proxy.forwarder import Forwarder

PREFIXES = "cts_prefixes"
"""The key in the web application's settings of further paths at which CTS is served."""
ACTIVITY_SECONDS = 5.0
"""Between looks for live jobs; what stops idle servers waits for minutes."""
SWITCH_SECONDS = 0.0005
"""How long a thread that computes may keep Python's lock from the event loop; Python's default is 5 ms, and a request takes the lock several times."""
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
    owner = Unicode(
        help="Whose jobs these are; if unset, the hub's user's, or else the login's."
    ).tag(config=True)
    overrides = Dict(
        help="Any other settings by name, as in cts.toml: {'max_cpu_hours': 10, 'local': {'cpus': 4}}."
    ).tag(config=True)

    _cts_settings: Settings | None = None
    _failure = "CTS could not start: the server's log says why"
    _lifecycle: Lifecycle | None = None
    _bodies: Bodies | None = None
    _forwarder: Forwarder | None = None
    _core: Core | None = None
    _server_file: Path | None = None
    _kernel_socket: KernelSocket | None = None
    _activity: asyncio.Task[None] | None = None
    _garbage: GarbageCollection | None = None
    _switch_interval = 0.0

    def load_overrides(self) -> dict[str, Any]:
        """Return the settings that the Jupyter configuration makes."""
        own = {"preset": self.preset, "home": self.home, "owner": self.owner}
        return {**self.overrides, **{name: value for name, value in own.items() if value}}

    def initialize_settings(self) -> None:
        """Attach our loggers to Jupyter's, load the settings, and create what all requests share."""
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            logger.parent = self.log
            logger.setLevel(handled_level(self.log))
        try:
            check_platform()
            self._cts_settings = load_settings(self.load_overrides())
        except ConfigError as e:
            self._failure = str(e)
            self.log.error("%s", e)  # noqa: TRY400 - one plain line, no traceback
        if sys.platform == "win32":
            return
        from cts_jupyter.server.http import bodies  # noqa: PLC0415 - see below

        self._bodies = bodies.Bodies(
            LimitsSettings() if self._cts_settings is None else self._cts_settings.limits
        )
        self.settings[bodies.SETTING] = self._bodies
        self._kernel_token = secrets.token_urlsafe(32)
        # Imported here and below, because the engine's modules need what Windows does not have.
        if self._cts_settings is not None and self._cts_settings.preset is Preset.REMOTE:
            self._forward(self._cts_settings)
            return
        from cts_jupyter.server.http.lifecycle import SETTING, Lifecycle  # noqa: PLC0415 - see above
        from cts_jupyter.server.routes import refdata_service, table  # noqa: PLC0415 - see above

        self._lifecycle = Lifecycle(
            refdata_service.ROUTES if self._stages_refdata else table.ROUTES
        )
        self.settings[SETTING] = self._lifecycle

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
        )
        self.settings[forwarder.SETTING] = self._forwarder

    def initialize_handlers(self) -> None:
        """Register the handler of ``/cts``; its requests wait until the engine has started."""
        serverapp = cast("ServerApp", self.serverapp)
        roots = {
            url_path_join(serverapp.base_url, "cts"),
            *serverapp.web_app.settings.get(PREFIXES, ()),
        }
        if (handler := self._handler()) is not None:
            # The most specific first: the empty prefix is above all others.
            serverapp.web_app.add_handlers(  # type: ignore[no-untyped-call]  # tornado gives it no types
                ".*$",
                [
                    (f"{re.escape(root)}(?:/.*)?", handler, {"root": root})
                    for root in sorted(roots, key=len, reverse=True)
                ],
            )

    def _handler(self) -> type[RequestHandler] | None:
        """Return the class that serves CTS; None where nothing can."""
        if self._forwarder is not None:
            from cts_jupyter.server.proxy.handler import ProxyHandler  # noqa: PLC0415 - as above

            return ProxyHandler
        if self._lifecycle is not None:
            from cts_jupyter.server.http.handler import CTSHandler  # noqa: PLC0415 - as above

            return CTSHandler
        return None

    async def _start_jupyter_server_extension(self, serverapp: ServerApp) -> None:
        """Start the engine; an error is logged and sent in responses, and Jupyter runs on without CTS."""
        settings = self._cts_settings
        if settings is not None and (server := getattr(serverapp, "_http_server", None)):
            from cts_jupyter.server import kernel_socket  # noqa: PLC0415 - as above

            # The HTTP server is Jupyter's, which leaves tornado's own bound of an hour.
            kernel_socket.bound_idle_connections(server, settings.limits.idle_s)
        if settings is not None and settings.log_format == "json":
            for logger in (self.log, serverapp.log):
                format_as_json(logger, settings.group)
        if self._forwarder is not None and settings is not None:
            self._open_to_kernels(serverapp, settings, service=settings.remote.url)
            path = url_path_join(serverapp.base_url, "cts")
            self.log.info("CTS forwards from below %s to %s", path, settings.remote.url)
        if self._lifecycle is None:
            return
        try:
            if settings is not None:
                await self._start_core(self._lifecycle, settings, serverapp)
        except (ConfigError, CTSError, OSError) as e:
            self._failure = str(e)
            self.log.error("%s", e)  # noqa: TRY400 - one plain line, no traceback
        finally:
            if self._core is None:
                self._lifecycle.fail(self._failure)

    async def _start_core(
        self, lifecycle: Lifecycle, settings: Settings, serverapp: ServerApp
    ) -> None:
        from cts_core.engine import adapters  # noqa: PLC0415 - as above
        from cts_core.engine.engine import Engine  # noqa: PLC0415 - as above

        identity = _identity(settings, serverapp, self._kernel_token)
        core: Core
        if self._stages_refdata:
            # Its client of the service takes long to import, and the engine needs none.
            from cts_core.refdata_service.service import RefdataService  # noqa: PLC0415

            core = RefdataService.from_settings(settings, identity, adapters.object_store(settings))
        else:
            core = Engine.from_settings(settings, identity)
        await core.start()
        self._core = core
        self._garbage = GarbageCollection()
        self._garbage.start()
        self._switch_interval = sys.getswitchinterval()
        sys.setswitchinterval(min(SWITCH_SECONDS, self._switch_interval))
        lifecycle.start(core)
        path = url_path_join(serverapp.base_url, "cts")
        if isinstance(core, Engine) and core.identity.uses_host_login:
            self._activity = asyncio.create_task(
                count_jobs_as_activity(core.jobs, serverapp.web_app.settings), name="activity"
            )
        if core.identity.uses_host_login:
            self._open_to_kernels(serverapp, settings)
            self.log.info(
                "CTS serves %s's jobs from %s below %s", settings.owner, settings.home, path
            )
        elif self._stages_refdata:
            self.log.info(
                "Reference data is staged in %s for the CTS at %s, asked for below %s",
                settings.refdata.local_path,
                settings.refdata.cts_url,
                path,
            )
        else:
            self.log.info("CTS serves the users of %s below %s", settings.kbase.auth_url, path)

    def _open_to_kernels(
        self, serverapp: ServerApp, settings: Settings, service: str | None = None
    ) -> None:
        """Listen at a socket for this server's kernels, and leave the file by which they find it."""
        from cts_jupyter.discovery import ServerFile, write_server_file  # noqa: PLC0415 - as above
        from cts_jupyter.server.kernel_socket import KernelSocket  # noqa: PLC0415 - as above

        url, certificate = local_url(serverapp), (serverapp.ssl_options or {}).get("certfile")
        try:
            self._kernel_socket = KernelSocket(serverapp, idle_seconds=settings.limits.idle_s)
        except OSError as e:
            self.log.warning(
                "There can be no Unix socket for the kernels of this server (%s): they reach CTS only if %s lets them in "
                "without a certificate of theirs",
                e,
                url,
            )
        content = ServerFile(
            url=url,
            socket=self._kernel_socket.path if self._kernel_socket else None,
            token=self._kernel_token,
            pid=os.getpid(),
            certificate=Path(certificate).absolute() if certificate else None,
            service=service,
        )
        try:
            self._server_file = write_server_file(Path(serverapp.runtime_dir), content)
        except OSError as e:
            self.log.warning("Kernels of this server will not find CTS by themselves: %s", e)

    @property
    def is_serving(self) -> bool:
        """Whether CTS has started."""
        return self._core is not None or self._forwarder is not None

    async def drain(self) -> None:
        """Accept no more requests, and wait at most ``drain_s`` seconds for those in progress."""
        if self._kernel_socket is not None:
            self._kernel_socket.stop()
        if self._bodies is not None:
            self._bodies.hurry()
        if self._lifecycle is not None and self._core is not None:
            await self._lifecycle.drain(self._core.settings.drain_s)

    async def stop_extension(self) -> None:
        """Stop serving, then stop the engine. Containers run on, and the next start finds them."""
        if self._server_file is not None:
            self._server_file.unlink(missing_ok=True)
            self._server_file = None
        if self._activity is not None:
            await cancel_and_wait(self._activity)
        if self._forwarder is not None:
            await self._forwarder.close()
        if self._lifecycle is not None:
            await self._lifecycle.close()
        if self._kernel_socket is not None:
            await self._kernel_socket.close()
            self._kernel_socket = None
        if self._core is not None:
            core, self._core = self._core, None
            await core.stop()
            sys.setswitchinterval(self._switch_interval)
            if self._garbage is not None:
                await self._garbage.stop()


def _identity(settings: Settings, serverapp: ServerApp, token: str) -> Identity:
    """Return the adapter that identifies callers; Jupyter's also accepts the kernels' ``token``."""
    from cts_core.engine import adapters  # noqa: PLC0415 - as above
    from cts_core.identity.jupyter import JupyterIdentity  # noqa: PLC0415 - as above

    if settings.identity == "kbase":
        return adapters.kbase_identity(settings)
    return JupyterIdentity(settings.owner, token, hub_user=hub_user(serverapp))


def hub_user(serverapp: ServerApp) -> str | None:
    """Return the user of a hub whose server this is; None if users log in otherwise.

    The variable alone says nothing: a server that a user starts by hand inherits it.
    """
    # The hub extends either of them: by JUPYTERHUB_SINGLEUSER_EXTENSION, the identity provider or the application.
    classes = (*type(serverapp.identity_provider).__mro__, *type(serverapp).__mro__)
    is_of_hub = any(each.__module__.partition(".")[0] == "jupyterhub" for each in classes)
    return os.environ.get(HUB_USER, "") if is_of_hub else None


async def count_jobs_as_activity(jobs: Jobs, settings: dict[str, Any]) -> None:
    """Have Jupyter take this server for active while jobs are live, so that nothing that stops idle servers stops it.

    Jupyter counts each key of the web application's settings that ends so.
    """
    while True:
        # What cannot be read now is neither idle nor active.
        with contextlib.suppress(CTSError):
            if await jobs.any_live():
                settings["cts_last_activity"] = utc_now()
        await asyncio.sleep(ACTIVITY_SECONDS)


def local_url(serverapp: ServerApp) -> str:
    """Return the URL at which processes of this machine may reach CTS in the server, as Jupyter writes one of a socket."""
    path = url_path_join(serverapp.base_url, "cts")
    if serverapp.sock:
        return f"http+unix://{urlencode_unix_socket_path(serverapp.sock)}{path}"
    scheme = "https" if serverapp.ssl_options else "http"
    host = serverapp.ip
    if not host or host in WILDCARD_IPS or host == "localhost":
        host = "::1" if host == "::" else "127.0.0.1"
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}:{serverapp.port}{path}"
