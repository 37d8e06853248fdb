"""Where everything lies at NERSC: ours, JAWS's, and what the deployed service left. Pure.

The paths and names of the deployed service stay as they are (docs/reference/contract-jaws.md), so that its jobs, its cache
and its reference data go on. Names of ours that it would overwrite have a step and the number of an attempt in them.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from cts_core.errors import ConfigError
from cts_core.model.site import SiteName

SERVICE = "cdm_task_service"
"""The folder of the service's own files below several others."""
JAWS_SITES: Mapping[SiteName, str] = {
    SiteName.PERLMUTTER_JAWS: "kbase",
    SiteName.LAWRENCIUM_JAWS: "jgi",
}
"""The names of our sites at JAWS."""
_CACHE_SITE = "kbase"
"""The site of JAWS in the paths of the cache, for jobs of every site: all inputs are staged at Perlmutter."""
WDL, INPUTS, MANIFESTS = "input.wdl", "input.json", "manifests"
"""What a run is submitted by, in the folder of its job; ``MANIFESTS`` is a folder."""
LOGS = "logs"
"""The folder of a job in which the logs of failed containers are."""
_FOLDER = re.compile(r"(?:/[\w.+-]+)+", re.ASCII)
_NAME = re.compile(r"[\w-][\w.-]*", re.ASCII)


class Machine(StrEnum):
    """A system of NERSC, by its name at the Superfacility API. Both see the same folders, some by other paths."""

    PERLMUTTER = "perlmutter"
    DTNS = "dtns"


class Step(StrEnum):
    """A part of a job that runs at NERSC, by its name in the job's folder."""

    DOWNLOAD = "download"
    SUBMIT = "submit"
    CHECKSUMS = "checksums"
    UPLOAD = "upload"
    LOGS = "logs"


DEPLOYED_RESULTS: Mapping[Step, str] = {
    Step.DOWNLOAD: "download_result.json",
    Step.CHECKSUMS: "upload_checksums_result.json",
    Step.UPLOAD: "upload_result.json",
    Step.LOGS: "error_log_result.json",
}
"""What the helper of the deployed service writes at the end of each step. Nothing replaces it atomically."""
DEPLOYED_CHECKSUMS = "upload_checksums.json"
"""The checksums of all outputs, as the helper of the deployed service leaves them."""


class Kind(StrEnum):
    """What a file of an attempt is, by the ending of its name."""

    CLAIM = "claim"
    """Made exclusively by the helper that makes the attempt, and touched while it works."""
    SUMS = "sums"
    """The checksums of all outputs, as the step for them leaves them."""
    END = "json"
    """What came of it; renamed into place."""


LOOKED_AT = (
    rf"(?:{'|'.join(step.value for step in Step)})-[1-9][0-9]{{0,8}}\.(?:claim|json)"
    rf"|(?:{'|'.join(map(re.escape, DEPLOYED_RESULTS.values()))})"
)
"""The pattern of the names that tell how far a job is."""


@dataclass(frozen=True, order=True)
class Attempt:
    """One attempt at a step of a job; attempts are numbered from 1."""

    step: Step
    number: int

    def file(self, kind: Kind) -> str:
        """Return the name of one of its files in the folder of the job."""
        return f"{self.step.value}-{self.number}.{kind.value}"


_ATTEMPT = re.compile(
    rf"({'|'.join(step.value for step in Step)})-([1-9][0-9]{{0,8}})\.({'|'.join(kind.value for kind in Kind)})"
)


def attempts_in(names: Iterable[str]) -> dict[Attempt, frozenset[Kind]]:
    """Return, by attempt, which of its files are among these names of a job's folder."""
    found: dict[Attempt, frozenset[Kind]] = {}
    for name in names:
        if match := _ATTEMPT.fullmatch(name):
            attempt = Attempt(Step(match[1]), int(match[2]))
            found[attempt] = found.get(attempt, frozenset()) | {Kind(match[3])}
    return found


@dataclass(frozen=True)
class Layout:
    """The paths of one group's service. ``scratch`` is ``$SCRATCH`` of the collaboration user, by machine."""

    group: str
    user: str
    scratch: Mapping[Machine, str]
    staging: Mapping[Machine, str]
    """The area from which JAWS takes inputs."""
    refdata_root: str
    """JAWS's folder of reference data, as the DTNs see it; Perlmutter sees the same."""
    code_root: str

    def __post_init__(self) -> None:
        """Raise ConfigError for names and folders that could not stand in a command as they are."""
        for name, text in (("group", self.group), ("jaws.user", self.user)):
            if not _NAME.fullmatch(text):
                raise ConfigError(
                    f"{name}: '{text}' may have letters, digits, dots and dashes only"
                )
        folders = {
            "jaws.refdata_root": self.refdata_root,
            "jaws.remote_code_dir": self.code_root,
            **{f"$SCRATCH on {machine}": path for machine, path in self.scratch.items()},
            **{f"jaws.staging_dir on {machine}": path for machine, path in self.staging.items()},
        }
        for name, path in folders.items():
            if not _FOLDER.fullmatch(path.rstrip("/")) or {".", ".."} & set(path.split("/")):
                raise ConfigError(f"{name}: '{path}' is no absolute path of plain characters")

    def _ours(self, machine: Machine, *parts: str) -> str:
        return "/".join((self.scratch[machine].rstrip("/"), SERVICE, self.group, *parts))

    def job(self, job_id: str, machine: Machine = Machine.DTNS) -> str:
        """Return the folder of a job."""
        return self._ours(machine, "jobs", job_id)

    def plans(self, machine: Machine = Machine.DTNS) -> str:
        """Return the folder in which helpers find what they are to do; each removes its own plan."""
        return self._ours(machine, "plans")

    def plan(self, folder: str, name: str, machine: Machine = Machine.DTNS) -> str:
        """Return the path of a plan for the job, or the reference data, that has this folder; its plans are found by their names."""
        return f"{self.plans(machine)}/{folder.rpartition('/')[2]}.{name}.plan"

    def refdata_work(self, refdata_id: str) -> str:
        """Return the folder of the transfer of reference data, which has none of the data in it."""
        return self._ours(Machine.DTNS, "refdata", refdata_id)

    def cache(self, machine: Machine) -> str:
        """Return the cache of inputs, where JAWS takes them as staged already.

        JAWS stages a file at the staging area and the file's own path, which is that of Perlmutter, seen from either.
        """
        original = self._ours(Machine.PERLMUTTER, "cache").lstrip("/")
        return f"{self.staging[machine].rstrip('/')}/inputs/{_CACHE_SITE}/{original}"

    def refdata(self, refdata_id: str) -> str:
        """Return the folder of reference data."""
        return f"{self.refdata_root.rstrip('/')}/{self.refdata_for_jaws(refdata_id)}"

    def refdata_for_jaws(self, refdata_id: str) -> str:
        """Return the folder of reference data, relative to JAWS's root of them at each of its sites."""
        return f"{SERVICE}/{self.group}/{refdata_id}"

    def _change(self, refdata_id: str) -> str:
        return f"{self.user}_{self.group}_{refdata_id}_changes.txt"

    def change_file(self, refdata_id: str) -> str:
        """Return the file that has JAWS copy reference data to its other sites; the folder of the data is its content."""
        return f"{self.refdata_root.rstrip('/')}/{self._change(refdata_id)}"

    def change_answer(self, refdata_id: str, site: SiteName) -> str:
        """Return the file in which JAWS says that it has copied reference data to a site."""
        name = f"{self._change(refdata_id)}_{JAWS_SITES[site]}.complete"
        return f"{self.refdata_root.rstrip('/')}/log/{name}"

    def code(self, version: str) -> str:
        """Return the folder of one version of the helper; several lie side by side."""
        return f"{self.code_root.rstrip('/')}/{version}/{self.group}"

    @property
    def jaws_config(self) -> str:
        """The config of JAWS's client on Perlmutter, below the user's home."""
        return f"jaws_cts_{self.group}.conf"

    @property
    def private(self) -> str:
        """The folder below the user's home, for its owner alone, through which files with secrets are uploaded."""
        return f".jaws_cts_{self.group}"


def cache_entry(cache: str, crc64nvme: str) -> str:
    """Return the path of the content with this checksum below a cache."""
    digits = base64.b64decode(crc64nvme, validate=True).hex()
    return f"{cache}/{digits[:2]}/{digits}"


def run_folder(output_dir: str, run_id: str) -> str | None:
    """Return the folder of a run, of which ``output_dir`` is a part; None if the run's id is not in that path.

    It is removed when the job is cleaned: no path that leads elsewhere may be.
    """
    parts = output_dir.rstrip("/").split("/")
    if (
        not output_dir.startswith("/")
        or {"", ".", ".."} & set(parts[1:])
        or run_id not in parts[2:]
    ):
        return None
    return "/".join(parts[: len(parts) - parts[::-1].index(run_id)])
