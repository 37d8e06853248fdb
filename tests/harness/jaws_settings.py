"""The settings of a service with both sites of JAWS, on simulators of NERSC and JAWS and on a real object store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.harness.jaws_clients import write_key
from tests.harness.jaws_vectors import LAYOUT
from tests.services.s3 import ACCESS_KEY, SECRET, S3Server
from tests.simulators.jaws_sites import JAWSSites


def jaws_settings(sites: JAWSSites, server: S3Server, folder: Path) -> dict[str, Any]:
    """Return the settings, as in ``cts.toml``; the file of the client's key is in the folder."""
    nersc, jaws = sites.nersc, sites.jaws
    return {
        "sites": ["perlmutter-jaws", "lawrencium-jaws"],
        "objects": "s3",
        "s3": {"url": server.url, "access_key": ACCESS_KEY, "access_secret": SECRET},
        "log_dir": "logs/cts",
        "group": LAYOUT.group,
        "root_url": "http://127.0.0.1:1/cts",
        "jaws": {
            "user": nersc.user,
            "sfapi_cred_path": str(write_key(nersc, folder / "sfapi_key")),
            "refdata_root_dir": LAYOUT.refdata_root,
            "token": jaws.token,
            "url": jaws.url.rstrip("/"),
            "sfapi_url": nersc.api_url.rstrip("/"),
            "sfapi_beta_url": nersc.beta_url.rstrip("/"),
            "sfapi_token_url": nersc.token_url,
            "max_calls_s": 100.0,
        },
    }


def settings_variables(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment variables that stand for settings."""
    return dict(_variables(settings, "CTS_"))


def _variables(settings: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _variables(value, f"{prefix}{name.upper()}__")
        else:
            text = ",".join(value) if isinstance(value, list) else str(value)
            yield f"{prefix}{name.upper()}", text
