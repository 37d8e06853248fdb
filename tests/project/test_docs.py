"""What the documentation says of the code is what the code says."""

from cts_core.config.load import describe_settings
from cts_core.config.settings import PRESETS
from tests.harness.paths import DOCS

OPERATING = (DOCS / "how-to" / "run-at-kbase.md").read_text()


def test_every_setting_is_documented_with_its_default():
    for name, default, meaning in describe_settings():
        assert f"| `{name}` | {default} | {meaning} |" in OPERATING


def test_what_a_preset_changes_is_documented():
    for preset, defaults in PRESETS.items():
        if defaults:
            told = ", ".join(f"{name} {value or 'none'}" for name, value in defaults.items())
            assert f"| `{preset.value}` | {told} |" in OPERATING
