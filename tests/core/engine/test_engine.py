"""Starting the engine."""

from pathlib import Path

import pytest

from cts_core.config.load import load_settings
from cts_core.engine.engine import Engine
from cts_core.errors import ConfigError
from cts_core.identity.jupyter import JupyterIdentity


class SeveralPeople(JupyterIdentity):
    """An identity that lets more than one person in."""

    single_user = False


async def test_the_local_site_refuses_several_people(tmp_path: Path):
    settings = load_settings({"preset": "embedded", "home": tmp_path}, environ={})
    engine = Engine.from_settings(settings, SeveralPeople("ana", "kernel-token"))
    with pytest.raises(ConfigError, match="several people"):
        await engine.start()
    assert not (tmp_path / "records.sqlite").exists()


async def test_unless_that_is_meant(tmp_path: Path):
    settings = load_settings(
        {"preset": "embedded", "home": tmp_path, "local": {"shared": True}}, environ={}
    )
    engine = Engine.from_settings(settings, SeveralPeople("ana", "kernel-token"))
    await engine.start()
    assert (await engine.readiness()).status == "ready"
    await engine.stop()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"log_dir": "taken/logs"}, r"log_dir: taken/logs cannot be written: .+"),
        (
            {"allowed_paths": ["data/{user}", "taken/for/{user}"]},
            r"allowed_paths\.1: taken/for cannot be written: .+",
        ),
    ],
)
async def test_folders_that_cannot_be_written_are_named_at_the_start(
    settings: dict[str, object], said: str, tmp_path: Path
):
    (tmp_path / "objects").mkdir()
    (tmp_path / "objects/taken").touch()
    loaded = load_settings({"preset": "embedded", "home": tmp_path, **settings}, environ={})
    engine = Engine.from_settings(loaded, JupyterIdentity("ana", "kernel-token"))
    with pytest.raises(ConfigError, match=said):
        await engine.start()
