"""What the documentation says of the code is what the code says."""

from pathlib import Path

from cts_core.config import describe_settings
from cts_core.settings import PRESETS

OPERATING = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()


def test_every_setting_is_documented_with_its_default():
    for name, default, meaning in describe_settings():
        assert f"| `{name}` | {default} | {meaning} |" in OPERATING


def test_what_a_preset_changes_is_documented():
    for preset, defaults in PRESETS.items():
        if defaults:
            told = ", ".join(f"{name} {value or 'none'}" for name, value in defaults.items())
            assert f"| `{preset.value}` | {told} |" in OPERATING
