"""``cts sites check``: tests whether a site can be used from here."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Sequence

from cts_core.config.load import load_settings
from cts_core.config.settings import Settings
from cts_core.errors import UnavailableError
from cts_core.model.site import SiteDescription, SiteName
from cts_core.worker.units import format_size
from cts_jupyter.cli import outages
from cts_jupyter.cli.output import CommandError, Status, print_json, print_line


async def check(arguments: argparse.Namespace) -> Status:
    """Open a configured site and print its description and its survey. Raises CommandError and ConfigError."""
    from cts_core.engine import adapters  # noqa: PLC0415 - slow to import
    from cts_core.sites.site import Survey  # noqa: PLC0415 - as above

    settings = load_settings()
    name = SiteName(arguments.site)
    store, objects = adapters.record_store(settings), adapters.object_store(settings)
    site = adapters.sites(settings, store, objects, looks_only=True).get(name)
    if site is None:
        raise CommandError(f"sites does not name {name.value}: it names {_names(settings)}")
    await site.open(lambda _: None)
    try:
        # In this order, because after the survey the site's notes repeat what it found.
        described = await site.describe()
        survey = await site.survey()
    except UnavailableError as e:
        survey = Survey(trouble=[str(e)])
    finally:
        await site.close()
    trouble = [] if described.available else [described.unavailable_reason or "it takes no jobs"]
    trouble += survey.trouble
    if no_objects := await outages.objects_trouble(settings):
        trouble.append(f"the object store cannot be used from here: {no_objects}")
    trouble += await _waits(settings, name)
    if name is SiteName.LOCAL:
        trouble += _check_folder(settings)
    if arguments.json:
        print_json(
            {**described.model_dump(mode="json"), "survey": list(survey.lines), "trouble": trouble}
        )
    else:
        _print_site(described, survey.lines, trouble)
    return Status.UNAVAILABLE if trouble else Status.OK


async def _waits(settings: Settings, site: SiteName) -> list[str]:
    """Return what jobs of this site wait for, and why, as servers recorded it."""
    from cts_core.engine import adapters  # noqa: PLC0415 - as above

    store = adapters.record_store(settings)
    try:
        await store.open()
        try:
            return list(outages.describe_waits(await store.live_jobs(site), await store.now()))
        finally:
            await store.close()
    except UnavailableError as e:
        return [f"the record store cannot be used from here: {e}"]


def _names(settings: Settings) -> str:
    return ", ".join(site.value for site in settings.sites) or "none"


def _check_folder(settings: Settings) -> list[str]:
    folder = settings.home / "local"
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as e:
        return [f"{folder} cannot be written: {e.strerror}"]
    free = shutil.disk_usage(folder).free
    if free < settings.local.log_limit * 2:
        return [
            f"{folder} has {format_size(free)} left, less than the logs of one container may take"
        ]
    return []


def _print_site(described: SiteDescription, lines: Sequence[str], trouble: list[str]) -> None:
    print_line(
        f"{described.cluster.value}: {described.cpus_per_node} cpus and {described.memory_per_node_gb} GB a node, at most "
        f"{described.max_runtime_min} minutes a container"
    )
    for note in described.notes:
        print_line(f"note: {note}")
    for line in lines:
        print_line(line)
    for reason in trouble:
        print_line(f"wrong: {reason}")
    if not trouble:
        print_line("it can be used")
