"""The servers that tests may ask for by the names of their fixtures, and a certificate for their own."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import settings

from tests.services.certificate import self_signed
from tests.services.server import MissingError

# jsonschema takes it for URIs of schemas where it is installed, and it builds its grammars for two seconds.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]

SERVICES = [
    "tests.services.apptainer",
    "tests.services.bubblewrap",
    "tests.services.condor",
    "tests.services.cts_image",
    "tests.services.docker",
    "tests.services.jupyterhub",
    "tests.services.kafka",
    "tests.services.minio",
    "tests.services.mongo",
    "tests.services.nginx",
    "tests.services.podman",
    "tests.services.promtool",
    "tests.services.registry",
    "tests.services.versitygw",
]
"""One module a server; its fixture has the module's name."""
pytest_plugins = [
    "tests.services.s3",
    *SERVICES,
    "tests.simulators.jaws_central",
    "tests.simulators.kbase_auth",
    "tests.simulators.sfapi",
    "tests.harness.server_fixtures",
]


# How long an example takes depends on what else the machine does, and is no property of the code.
settings.register_profile("cts", deadline=None)
settings.load_profile("cts")


def pytest_xdist_auto_num_workers() -> int:
    """Of the fast tests: one more at once than there are cpus, as each waits a third of its time."""
    return (os.cpu_count() or 1) + 1


def _asked_for(item: pytest.Item) -> Iterator[str]:
    yield from getattr(item, "fixturenames", ())
    if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
        yield from map(str, item.callspec.params.values())


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the servers that are asked for before the first test: a build takes longer than a test may."""
    if session.config.option.collectonly:
        return
    gc.freeze()  # what was imported stays: IPython's shells, and some tests, collect garbage again and again
    names = {name for item in session.items for name in _asked_for(item)}
    for service in SERVICES:
        if service.rpartition(".")[2] in names:
            # Missing ones are the fixture's to tell.
            with contextlib.suppress(MissingError):
                import_module(service).install()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """The files of a key and of its certificate, which nobody has issued, for a server at 127.0.0.1."""
    return self_signed(tmp_path, "IP:127.0.0.1")
