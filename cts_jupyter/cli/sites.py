"""``cts sites check``: whether a site can be used from here."""

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
from cts_jupyter.cli.output import CommandError, Status, say, say_json


async def check(arguments: argparse.Namespace) -> Status:
    """Open a configured site and ask it about itself. Raises CommandError and ConfigError."""
    from cts_core.engine import adapters  # noqa: PLC0415 - slow to import
    from cts_core.sites.site import Survey  # noqa: PLC0415 - as above

    settings = load_settings()
    cluster = SiteName(arguments.site)
    store, objects = adapters.record_store(settings), adapters.object_store(settings)
    site = adapters.sites(settings, store, objects).get(cluster)
    if site is None:
        raise CommandError(f"sites does not name {cluster.value}: it names {_names(settings)}")
    await site.open(lambda _: None)
    try:
        # In this order: once the survey is done, the site's own notes say the same again.
        found = await site.describe()
        survey = await site.survey()
    except UnavailableError as e:
        survey = Survey(trouble=[str(e)])
    finally:
        await site.close()
    trouble = [] if found.available else [found.unavailable_reason or "it takes no jobs"]
    trouble += survey.trouble
    if cluster is SiteName.LOCAL:
        trouble += _check_folder(settings)
    if arguments.json:
        say_json(
            {**found.model_dump(mode="json"), "survey": list(survey.lines), "trouble": trouble}
        )
    else:
        _say(found, survey.lines, trouble)
    return Status.UNAVAILABLE if trouble else Status.FINE


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


def _say(found: SiteDescription, lines: Sequence[str], trouble: list[str]) -> None:
    say(
        f"{found.cluster.value}: {found.cpus_per_node} cpus and {found.memory_per_node_gb} GB a node, at most "
        f"{found.max_runtime_min} minutes a container"
    )
    for note in found.notes:
        say(f"note: {note}")
    for line in lines:
        say(line)
    for reason in trouble:
        say(f"wrong: {reason}")
    if not trouble:
        say("it can be used")
