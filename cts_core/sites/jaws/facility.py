"""NERSC and JAWS as both sites share them: opened once, prepared when NERSC is up, watched, and closed by the last.

Nothing here is needed at the start of this service: while NERSC is down, it is prepared again and again.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cts_core.clock import utc_now
from cts_core.concurrency import cancel_and_wait, run_in_pool
from cts_core.errors import ConfigError, CTSError, UnavailableError
from cts_core.http_client import HttpClient, read_json
from cts_core.model.site import SiteName
from cts_core.sites.jaws import commands, outages
from cts_core.sites.jaws.central import Central, JAWSError
from cts_core.sites.jaws.credentials import Credentials, read_key
from cts_core.sites.jaws.layout import JAWS_SITES, Attempt, Layout, Machine, Step
from cts_core.sites.jaws.look import LOOK_SECONDS, Lookout
from cts_core.sites.jaws.outages import Availability, Outage
from cts_core.sites.jaws.pace import Pace
from cts_core.sites.jaws.setup import JAWSSetup
from cts_core.sites.jaws.sfapi import (
    SFAPI,
    CommandError,
    NoSuchFolderError,
    PublicSFAPI,
    SFAPIError,
    Task,
    TaskState,
)
from cts_core.sites.jaws.transfers import Plan
from cts_core.sites.jaws.watch import Watch
from cts_core.sites.site import ClientInfo
from cts_core.sites.worker_code import pack_code

log = logging.getLogger(__name__)

STATUS_SECONDS = 60.0
"""How long NERSC's word on its systems counts."""
SITE_SECONDS = 30.0
"""How long JAWS's word on a site counts."""
WAIT_SECONDS = 3.0
"""How long somebody who asks waits for a word that is not old."""
KEY_SECONDS = 600.0
"""Between two looks at the key file."""
COMMAND_SECONDS = 120.0
"""How long nothing may come of a short command before it is sent again, since NERSC may have lost it; twice as long each time."""
MAX_COMMAND_SECONDS = 3600.0
"""How long a short command may take, with its wait at NERSC."""
_TASK_SECONDS, _MAX_TASK_SECONDS = 1.0, 15.0
"""Between two looks at a short command: at first, and once it takes long."""
_TASK_SHARE = 20
"""Of the time that a command has taken, the part after which it is looked at again."""
MAX_UPLOAD = 1_000_000
"""Bytes of one upload: nobody knows how long one may be at NERSC, and servers of the web often take no more than 1 MiB."""
PLACE_SECONDS = 60.0
"""Between two times that the same is placed again at NERSC."""
_PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Between tries to prepare, in seconds; the last one from then on."""
_CONNECTIONS = 8
_MAX_BYTES = 256 << 20
"""Bytes of one answer: the checksums of a run with very many outputs are read whole."""
_HASH_LENGTH = 16
_MAX_ERROR = 2000
"""Characters of a command's error that a message repeats."""
_UNPREPARED = Availability("NERSC was not reached yet since this service started")
_EXPIRED = Availability(
    "The client by which this service uses NERSC has expired: the service's operators have to renew it"
)
_REFUSED = Availability(
    "NERSC refuses the client by which this service uses it: the service's operators have to put that right"
)
_ONLY_LOOKS = "Nothing was prepared at NERSC, since this command only looks at the sites of JAWS"


@dataclass(frozen=True)
class _Client:
    """A client of the API, and the file that it was made of."""

    sfapi: SFAPI
    info: ClientInfo
    modified: float

    @property
    def is_good(self) -> bool:
        """Whether NERSC takes it, and its end has not come, as far as is known."""
        return self.sfapi.refusal is None and utc_now() < self.info.expires_at


@dataclass(frozen=True)
class _Systems:
    """What NERSC says of its systems."""

    availability: Availability
    planned: dict[str, list[Outage]]


class Facility:
    """Shared by the sites; every method but those of opening may raise UnavailableError."""

    def __init__(
        self,
        setup: JAWSSetup,
        *,
        task_seconds: float = _TASK_SECONDS,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        """Raise ConfigError if the helper could not run elsewhere, and for paths that could not stand in commands."""
        self.setup = setup
        self._paths = Layout(
            group=setup.group,
            user=setup.user,
            # NERSC tells it later; until then only paths are asked for that are elsewhere.
            scratch={},
            staging={
                Machine.DTNS: setup.staging_dir_dtn,
                Machine.PERLMUTTER: setup.staging_dir_perlmutter,
            },
            refdata_root=setup.refdata_root,
            code_root=setup.remote_code_dir,
        )
        self.lookout = Lookout(self, seconds=look_seconds)
        self._task_seconds = task_seconds
        self._archive = pack_code()
        self._version = hashlib.sha256(self._archive).hexdigest()[:_HASH_LENGTH]
        self._nersc = HttpClient(
            urlsplit(setup.sfapi_url).hostname or "",
            timeout=setup.timeout_s,
            connections=_CONNECTIONS,
            max_bytes=_MAX_BYTES,
        )
        self._jaws = HttpClient(
            urlsplit(setup.jaws_url).hostname or "",
            timeout=setup.timeout_s,
            connections=_CONNECTIONS,
            # A search answers with all runs of the user.
            max_bytes=_MAX_BYTES,
            proxy=setup.jaws_proxy,
        )
        self._pace = Pace(setup.max_calls_s)
        self.central = Central(
            setup.jaws_url, setup.jaws_token, self._jaws, Pace(setup.max_calls_s)
        )
        self._public = PublicSFAPI(setup.sfapi_url, self._nersc, self._pace)
        self._client: _Client | None = None
        self._layout: Layout | None = None
        self._problem = _UNPREPARED
        self._placing = asyncio.Lock()
        self._place_at: dict[str, float] = {}
        """When something may be placed again that was placed again before."""
        self._users = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._systems = Watch(self._ask_nersc, STATUS_SECONDS, _Systems(Availability(), {}))
        self._sites = {
            site: Watch(self._site_asker(name), SITE_SECONDS, Availability())
            for site, name in JAWS_SITES.items()
        }

    # -- life --

    async def open(self) -> None:
        """Begin to prepare, once. The key file is read then: one that is missing must not keep other sites from starting."""
        self._users += 1
        if self._users > 1:
            return
        if self.setup.looks_only:
            self._problem = Availability()
            return
        self._tasks = [
            asyncio.create_task(self._prepare(), name="jaws-prepare"),
            asyncio.create_task(self._watch_key(), name="jaws-key"),
        ]

    async def close(self) -> None:
        """End everything once the last site closes."""
        self._users -= 1
        if self._users > 0:
            return
        await cancel_and_wait(*self._tasks)
        await self.lookout.stop()
        await self.central.stop()
        await self._systems.stop()
        for site in self._sites.values():
            await site.stop()
        await self._nersc.close()
        await self._jaws.close()

    async def _prepare(self) -> None:
        for tries in itertools.count():
            try:
                await self._prepare_once()
            except (ConfigError, CTSError, SFAPIError, JAWSError, CommandError) as e:
                self._problem = Availability(f"NERSC and JAWS cannot be used yet: {e}")
                log.warning("The sites of JAWS are not prepared yet: %s", e)
            except Exception:
                log.exception("Preparing the sites of JAWS failed")
            else:
                log.info("The sites of JAWS are prepared")
                return
            await asyncio.sleep(_PAUSES[min(tries, len(_PAUSES) - 1)])

    async def _prepare_once(self) -> None:
        await self.connect()
        scratch = {
            Machine.DTNS: await self._prepare_dtn(),
            Machine.PERLMUTTER: await self._prepare_perlmutter(),
        }
        await self.check_token()
        self._layout = replace(self._paths, scratch=scratch)

    async def _prepare_dtn(self, *, is_code_lost: bool = False) -> str:
        """Make our folders, have the helper's code in its place, and return ``$SCRATCH``."""
        code = self._code_folder
        told = await self.command(Machine.DTNS, commands.prepare_dtn(self.setup.group, code))
        if is_code_lost or commands.is_code_missing(told):
            archive = f"{code},{uuid.uuid4().hex}.tgz"
            await self._upload(archive, self._archive)
            await self.command(Machine.DTNS, commands.unpack_code(archive, code))
        return commands.scratch_in(told)

    async def _prepare_perlmutter(self) -> str:
        """Place the config of JAWS's client, and return ``$SCRATCH``.

        An upload has whatever mode NERSC gives it: the token is uploaded into a folder that nobody else can enter.
        """
        setup, folder = self.setup, self._paths.private
        told = await self.command(Machine.PERLMUTTER, commands.prepare_perlmutter(folder))
        content = commands.jaws_config(setup.jaws_token.get_secret_value(), setup.jaws_group)
        uploaded = f"{folder}/{uuid.uuid4().hex}"
        await self.sfapi.upload(Machine.PERLMUTTER, uploaded, content)
        place = commands.place_for_owner(uploaded, self._paths.jaws_config)
        await self.command(Machine.PERLMUTTER, place)
        return commands.scratch_in(told)

    async def _place_again(self, what: str, place: Callable[[], Awaitable[object]]) -> None:
        """Place what is gone at NERSC, or may be, at most once in a while: what does not help is not done for each job."""
        async with self._placing:
            if time.monotonic() < self._place_at.get(what, 0.0):
                return
            self._place_at[what] = time.monotonic() + PLACE_SECONDS
            log.warning("Placing %s at NERSC again, which may have been removed", what)
            await place()

    async def check_token(self) -> None:
        """Raise JAWSError unless the token of JAWS is of the user that the settings name."""
        user, expected = await self.central.user(), self.setup.user
        if user != expected:
            raise JAWSError(f"the token of JAWS (jaws.token) is of {user}, and not of {expected}")

    # -- the client of NERSC --

    async def connect(self) -> None:
        """Make the client, unless there is one. Raises ConfigError and SFAPIError, too."""
        if self._client is None:
            self._client = await self._make_client()

    async def _make_client(self) -> _Client:
        setup = self.setup
        modified = await self._key_time()
        key = await asyncio.to_thread(read_key, setup.sfapi_cred_path)
        credentials = Credentials(key, self._nersc, setup.sfapi_token_url, self._pace)
        sfapi = SFAPI(setup.sfapi_url, setup.sfapi_beta_url, self._nersc, credentials, self._pace)
        user = await sfapi.account()
        if user != setup.user:
            raise ConfigError(
                f"jaws.sfapi_cred_path: the client {key.client_id} is of {user}, and not of {setup.user} (jaws.user)"
            )
        return _Client(sfapi, await sfapi.client(), modified)

    async def _watch_key(self) -> None:
        """Take a renewed key once it works; until then the old client serves."""
        failures = 0
        while True:
            pause = _PAUSES[min(failures, len(_PAUSES)) - 1] if failures else KEY_SECONDS
            await asyncio.sleep(pause)
            failures = 0 if await self.renew_client() else failures + 1

    async def renew_client(self) -> bool:
        """Look whether the key file has changed, and take what is in it if it works; return whether its client is in use."""
        if self._client is None:
            return True
        try:
            if await self._key_time() != self._client.modified:
                self._client = await self._make_client()
                log.info("A renewed client of NERSC is used: %s", self._client.info.client_id)
        except (ConfigError, CTSError, SFAPIError) as e:
            log.warning("The new key for NERSC cannot be used yet: %s", e)
            return False
        except Exception:
            log.exception("The new key for NERSC was not tried")
            return False
        return True

    async def _key_time(self) -> float:
        """Return when the key file was modified. Raises ConfigError."""
        return await asyncio.to_thread(_modified, self.setup.sfapi_cred_path)

    async def _check_client(self) -> None:
        """Look for another key if the client has come to its end, or was refused, and ask NERSC again: what waits for that does not.

        The owner of the client may have had its end moved.
        """
        if self._client is None or self._client.is_good:
            return
        await self.renew_client()
        client = self._client
        if client.is_good:
            return
        try:
            info = await client.sfapi.client()
        except (UnavailableError, SFAPIError) as e:
            log.warning("The client of NERSC cannot be used: %s", e)
            return
        if self._client is client:
            self._client = replace(client, info=info)

    def _of_client(self) -> Availability:
        """Return whether NERSC takes the client, as far as is known; the keys are not the users' concern."""
        client = self._client
        if client is None or client.sfapi.refusal is None:
            return Availability()
        if client.info.expires_at <= utc_now():
            return _EXPIRED
        return _REFUSED

    def refusal(self) -> str | None:
        """Return for operators why NERSC does not take the client; None while it takes it."""
        return self._client.sfapi.refusal if self._client is not None else None

    @property
    def sfapi(self) -> SFAPI:
        """The client of NERSC in use."""
        if self._client is None:
            raise UnavailableError(self._problem.reason or _ONLY_LOOKS)
        return self._client.sfapi

    def client(self) -> ClientInfo:
        """Return the client of NERSC in use; also while NERSC is down."""
        if self._client is None:
            raise UnavailableError(
                "The client of NERSC was not checked yet: NERSC has to be up once for that"
            )
        return self._client.info

    # -- what is up --

    @property
    def layout(self) -> Layout:
        """The paths at NERSC."""
        if self._layout is None:
            raise UnavailableError(self._problem.reason or _ONLY_LOOKS)
        return self._layout

    @property
    def _code_folder(self) -> str:
        return self._paths.code(self._version)

    def nersc(self) -> Availability:
        """Return whether NERSC can be used, as far as it is known now."""
        systems = self._systems.peek().availability
        if not systems.is_usable:
            return systems
        return self._problem if self._layout is None else self._of_client()

    def jaws(self, site: SiteName) -> Availability:
        """Return whether JAWS can run jobs at a site, as far as it is known now."""
        return self._sites[site].peek()

    def known(self, site: SiteName) -> Availability:
        """Return whether jobs of a site can go on, as far as it is known now."""
        return outages.both(self.nersc(), self.jaws(site))

    async def current(self, site: SiteName) -> tuple[Availability, list[str]]:
        """Return whether jobs of a site can go on now, and sentences on outages that are planned."""
        systems, jaws = await asyncio.gather(
            self._systems.current(wait=WAIT_SECONDS), self._sites[site].current(wait=WAIT_SECONDS)
        )
        return outages.both(self.nersc(), jaws), outages.notes(systems.planned, utc_now())

    async def _ask_nersc(self) -> _Systems:
        sfapi = self._public
        now = utc_now()
        try:
            statuses = {
                machine.value: outages.read_status(await sfapi.status(machine))
                for machine in Machine
            }
        except (UnavailableError, SFAPIError) as e:
            log.warning("NERSC does not say how it is: %s", e)
            return _Systems(Availability("NERSC does not say whether it is up"), {})
        await self._check_client()
        happening = await self._outages(sfapi.outages)
        planned = await self._outages(sfapi.planned_outages)
        both = {name: happening[name] + planned[name] for name in happening}
        return _Systems(outages.nersc(statuses, both, now), planned)

    async def _outages(
        self, ask: Callable[[Machine], Awaitable[object]]
    ) -> dict[str, list[Outage]]:
        """Return the outages of each system; none of one that does not list them, as they only explain its status."""
        found: dict[str, list[Outage]] = {}
        for machine in Machine:
            try:
                found[machine.value] = outages.read_outages(await ask(machine))
            except (UnavailableError, SFAPIError) as e:
                log.warning("NERSC does not list outages of %s: %s", machine.value, e)
                found[machine.value] = []
        return found

    def _site_asker(self, name: str) -> Callable[[], Awaitable[Availability]]:
        async def ask() -> Availability:
            try:
                return outages.jaws(name, await self.central.status(name))
            except (UnavailableError, JAWSError) as e:
                log.warning("JAWS does not say how its site %s is: %s", name, e)
                return Availability("JAWS does not answer")

        return ask

    # -- commands --

    async def ask_helper(
        self, arguments: Sequence[str], question: Mapping[str, Any] | None = None
    ) -> Any:  # noqa: ANN401 - JSON
        """Return what the helper answers on a DTN. Raises as ``command`` does."""
        command = commands.helper(Machine.DTNS, self._code_folder, arguments, question=question)
        try:
            answer = await self.command(Machine.DTNS, command)
        except CommandError as e:
            if not commands.is_code_missing(str(e)):
                raise
            await self._place_again(
                "the helper's code", partial(self._prepare_dtn, is_code_lost=True)
            )
            answer = await self.command(Machine.DTNS, command)
        try:
            # Whatever a machine tells at a login comes before it.
            return await read_json(answer.strip().rpartition("\n")[2])
        except ValueError:
            raise CommandError("the helper answers with something else than JSON") from None

    async def read(self, path: str) -> bytes | None:
        """Return the content of a file at NERSC; None if there is none. Raises SFAPIError, UnavailableError."""
        return await self.sfapi.download(Machine.DTNS, path)

    async def begin(
        self, job_folder: Callable[[Machine], str], attempt: Attempt, plan: Plan
    ) -> str:
        """Have a helper make an attempt at a step, and return the id of its task; it goes on by itself.

        The same attempt may be begun again: only one helper makes it.
        """
        machine = Machine.PERLMUTTER if attempt.step is Step.SUBMIT else Machine.DTNS
        name = uuid.uuid4().hex
        content = await run_in_pool(_encode, plan)
        path = self.layout.plan(job_folder(Machine.DTNS), name)
        if attempt.step is Step.SUBMIT and attempt.number > 1:
            # JAWS's client may have refused the one before since its config is gone.
            await self._place_again("the config of JAWS's client", self._prepare_perlmutter)
        try:
            await self._upload(path, content)
        except NoSuchFolderError:
            await self._place_again("the folder of plans", self._prepare_dtn)
            await self._upload(path, content)
        words = [
            *("attempt", job_folder(machine), attempt.step.value, str(attempt.number)),
            self.layout.plan(job_folder(machine), name, machine),
        ]
        needs_jaws = attempt.step is Step.SUBMIT
        command = commands.helper(machine, self._code_folder, words, needs_jaws=needs_jaws)
        return await self.sfapi.run(machine, command)

    async def _upload(self, path: str, content: bytes) -> None:
        """Write a new file by a DTN, in pieces if it is long. What removes it as left over removes its pieces by their names, too."""
        if len(content) <= MAX_UPLOAD:
            await self.sfapi.upload(Machine.DTNS, path, content)
            return
        stem, _, ending = path.rpartition(".")
        pieces = list[str]()
        for at in range(0, len(content), MAX_UPLOAD):
            pieces.append(f"{stem}.{len(pieces)}.{ending}")
            await self.sfapi.upload(Machine.DTNS, pieces[-1], content[at : at + MAX_UPLOAD])
        await self.command(Machine.DTNS, commands.join(pieces, path))

    async def command(
        self, machine: Machine, text: str, *, seconds: float = MAX_COMMAND_SECONDS
    ) -> str:
        """Run a short command, and return what it wrote. Raises CommandError, SFAPIError, UnavailableError.

        It may run twice: it is sent again when nothing has come of it for long, and whichever ends first counts.
        """
        task = await self._ended(machine, text, seconds)
        if not task.is_ok:
            raise CommandError(task.error.strip()[-_MAX_ERROR:] or "it failed without a word")
        return task.output

    async def _ended(self, machine: Machine, text: str, seconds: float) -> Task:
        begun = answered = time.monotonic()
        tasks = [await self.sfapi.run(machine, text)]
        again = COMMAND_SECONDS
        while True:
            for task_id in list(tasks):
                try:
                    task = await self.sfapi.task(task_id)
                except UnavailableError:
                    if time.monotonic() - answered > COMMAND_SECONDS:
                        raise
                    continue
                answered = time.monotonic()
                if task.state is TaskState.COMPLETED:
                    return task
                if task.is_over:
                    tasks.remove(task_id)
                    if not tasks:
                        raise UnavailableError(
                            f"NERSC did not end a command: it is {task.state.value}"
                        )
            waited = time.monotonic() - begun
            if waited >= seconds:
                raise UnavailableError(f"NERSC did not end a command within {seconds:.0f} s")
            if waited >= again:
                again *= 2
                # The first one may still end.
                with suppress(UnavailableError, SFAPIError):
                    tasks.append(await self.sfapi.run(machine, text))
            pause = max(self._task_seconds, min(_MAX_TASK_SECONDS, waited / _TASK_SHARE))
            await asyncio.sleep(pause)


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError as e:
        raise ConfigError(f"jaws.sfapi_cred_path: {path} cannot be read: {e.strerror}") from None


def _encode(plan: Plan) -> bytes:
    return json.dumps(plan).encode()
