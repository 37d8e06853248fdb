"""Starting the engine: configurations that it refuses."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cts_core.config.load import load_settings
from cts_core.engine.engine import Engine
from cts_core.errors import ConfigError
from cts_core.identity.identity import User
from cts_core.identity.jupyter import JupyterIdentity


class MultiUserIdentity(JupyterIdentity):
    """An identity of several users."""

    single_user = False


async def test_local_site_without_isolation_refuses_several_users(tmp_path: Path):
    settings = load_settings({"preset": "embedded", "home": tmp_path}, environ={})
    engine = Engine.from_settings(settings, MultiUserIdentity("ana", "kernel-token"))
    with pytest.raises(ConfigError, match="several people"):
        await engine.start()
    assert not (tmp_path / "records.sqlite").exists()


async def test_service_tells_the_time_of_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Clients have events replayed from that time on, whatever this server's clock says."""
    time = datetime(2026, 1, 2, tzinfo=UTC)
    monkeypatch.setattr("cts_core.observability.clock.utc_now", lambda: time)
    settings = load_settings({"preset": "embedded", "home": tmp_path}, environ={})
    engine = Engine.from_settings(settings, MultiUserIdentity("ana", "kernel-token"))
    engine._clock.offset = timedelta(seconds=40)
    assert engine.root().server_time == time - timedelta(seconds=40)


async def test_service_keeps_its_id(tmp_path: Path):
    """Clients know by it that jobs of another address are those of the same service."""
    found = set()
    for home in (tmp_path / "one", tmp_path / "one", tmp_path / "other"):
        settings = load_settings({"preset": "embedded", "home": home}, environ={})
        engine = Engine.from_settings(settings, JupyterIdentity("ana", "kernel-token"))
        await engine.start()
        found.add(engine.root().instance)
        assert engine.whoami(User("ana")).instance == engine.root().instance
        await engine.stop()
    assert len(found) == 2


async def test_shared_local_site_allows_several_users(tmp_path: Path):
    settings = load_settings(
        {"preset": "embedded", "home": tmp_path, "local": {"shared": True}}, environ={}
    )
    engine = Engine.from_settings(settings, MultiUserIdentity("ana", "kernel-token"))
    await engine.start()
    assert (await engine.readiness()).status == "ready"
    await engine.stop()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"log_dir": "taken/logs"}, r"log_dir: taken/logs/ cannot be written: .+"),
        (
            {"allowed_paths": ["data/{user}", "taken/for/{user}"]},
            r"allowed_paths\.1: taken/for/ cannot be written: .+",
        ),
    ],
)
async def test_unwritable_folders_are_named_at_the_start(
    settings: dict[str, object], message: str, tmp_path: Path
):
    (tmp_path / "objects").mkdir()
    (tmp_path / "objects/taken").touch()
    loaded = load_settings({"preset": "embedded", "home": tmp_path, **settings}, environ={})
    engine = Engine.from_settings(loaded, JupyterIdentity("ana", "kernel-token"))
    with pytest.raises(ConfigError, match=message):
        await engine.start()
