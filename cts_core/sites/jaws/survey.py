"""What operators are told of a site of JAWS: everything that jobs need is asked, and nothing is changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from cts_core.errors import ConfigError, CTSError
from cts_core.model.site import SiteName
from cts_core.sites.jaws import commands
from cts_core.sites.jaws.central import JAWSError
from cts_core.sites.jaws.facility import COMMAND_SECONDS, Facility
from cts_core.sites.jaws.layout import Machine
from cts_core.sites.jaws.sfapi import CommandError, SFAPIError
from cts_core.sites.site import Survey

_Question = Callable[[], Awaitable[Sequence[str]]]
"""Asks something, and returns what is told, a line each; those that begin with ``commands.WRONG`` are trouble."""


async def inspect(facility: Facility, site: SiteName) -> Survey:
    """Return what works at NERSC and JAWS, and what does not; one that does not keeps no other from being asked."""
    lines: list[str] = []
    trouble: list[str] = []

    async def ask(what: str, question: _Question) -> None:
        try:
            told = await question()
        except (ConfigError, CTSError, SFAPIError, JAWSError, CommandError) as e:
            trouble.append(f"{what}: {e}")
            return
        for line in told:
            problem = line.removeprefix(commands.WRONG)
            (lines if problem == line else trouble).append(f"{what}: {problem}")

    async def client() -> Sequence[str]:
        await facility.connect()
        info = facility.client()
        return [
            f"client {info.client_id} of {facility.setup.user}, expires {info.expires_at:%Y-%m-%d %H:%M} UTC"
        ]

    async def token() -> Sequence[str]:
        await facility.check_token()
        return [f"the token is of {facility.setup.user}"]

    async def look(machine: Machine) -> Sequence[str]:
        setup = facility.setup
        folders = {
            Machine.DTNS: (setup.staging_dir_dtn, setup.refdata_root, setup.remote_code_dir),
            Machine.PERLMUTTER: (setup.staging_dir_perlmutter, setup.refdata_root),
        }
        command = commands.look_around(machine, folders[machine], setup.refdata_root)
        # Somebody waits for the answer.
        told = await facility.command(machine, command, seconds=COMMAND_SECONDS)
        return told.splitlines()

    availability, notes = await facility.current(site)
    if availability.reason is not None:
        trouble.append(availability.reason)
    lines += notes
    await ask("Superfacility API", client)
    await ask("JAWS", token)
    await ask("data transfer nodes", lambda: look(Machine.DTNS))
    await ask("Perlmutter", lambda: look(Machine.PERLMUTTER))
    return Survey(lines, trouble)
