"""How the sites of JAWS are set up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from cts_core.object_paths import FolderPath


@dataclass(frozen=True)
class JAWSSetup:
    """What both sites share (docs/reference/contract-jaws.md §1)."""

    group: str
    """Of this service: its part of the folders at NERSC."""
    user: str
    """The collaboration user at NERSC, whose both the client of SFAPI and the token of JAWS have to be."""
    sfapi_cred_path: Path
    refdata_root: str
    staging_dir_dtn: str
    staging_dir_perlmutter: str
    remote_code_dir: str
    jaws_token: SecretStr
    log_dir: FolderPath
    root_url: str
    """Of this service, of which callbacks are made."""
    jaws_url: str = "https://jaws-api.jgi.doe.gov/"
    jaws_proxy: str = ""
    """For calls to JAWS central alone; empty for the environment's."""
    jaws_group: str = "kbase"
    """The team at JAWS that runs belong to."""
    sfapi_url: str = "https://api.nersc.gov/api/v1.2"
    sfapi_beta_url: str = "https://api.nersc.gov/api/beta"
    sfapi_token_url: str = "https://oidc.nersc.gov/c2id/token"  # noqa: S105 - an address
    takes_jobs_while_away: bool = True
    max_calls_s: float = 5.0
    """Calls of NERSC in a second at most, and of JAWS."""
    timeout_s: float = 30.0
    """For each call."""
    insecure_ssl: bool = False
    """Whether helpers at NERSC trust any certificate of the object store."""
    looks_only: bool = False
    """Whether nothing is prepared at NERSC, so that jobs cannot be run, and nothing there is changed."""

    def callback(self, *parts: str) -> str:
        """Return the URL of this service by which helpers and NERSC tell that something has happened."""
        return "/".join((self.root_url.rstrip("/"), "callback", *parts))
