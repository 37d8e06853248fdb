"""Makes the submit description of a job (docs/reference/contract.md §5). Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from cts_core.config.sections import HTCondorSettings, S3Settings
from cts_core.errors import UnsupportedError
from cts_core.model.record import JobSummary
from cts_core.object_paths import FolderPath
from cts_core.sites.htcondor.classads import CONTAINER_NUMBER, JOB_ID
from cts_core.sites.htcondor.constraints import for_group, quoted
from cts_core.sites.htcondor.worker_archive import WorkerArchive

NUMBER = "container_number"
"""The variable of the submit description, and the only column of its itemdata."""
_CHANGED_SCRIPT = (
    "CTS: the script that starts the worker is not what the job was submitted with: "
    "something between this node and CTS has changed it, or cut it off"
)
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MIB = 1 << 20
_HELD_SECONDS = 7 * 24 * 3600
"""How long a held container stays in the queue for inspection."""


@dataclass(frozen=True)
class NodeSetup:
    """The parts of a submit description that are the same for all jobs of this service."""

    root_url: str
    """The URL of this service, as nodes reach it."""
    s3: S3Settings
    log_dir: FolderPath
    settings: HTCondorSettings
    own: Callable[[], WorkerArchive] | None = None
    """Packs CTS's own worker, when it is first needed, which takes a second; None where nodes run the deployed worker."""

    @property
    def has_own_tokens(self) -> bool:
        """Whether each container gets a token of its own."""
        return self.own is not None and self.settings.credentials == "job"

    @property
    def executable_url(self) -> str:
        """The URL of the script that starts the worker."""
        files = f"{self.root_url}/external_exec/files"
        if self.own is not None:
            return f"{files}/worker/{self.own().launcher_name}"
        return self.settings.executable_url or f"{files}/condor/executable.sh"

    @property
    def archive_url(self) -> str:
        """The URL of the code that the script runs."""
        files = f"{self.root_url}/external_exec/files"
        if self.own is not None:
            return f"{files}/worker/{self.own().archive_name}"
        return self.settings.archive_url or f"{files}/code_archive.tgz"


def check_user(user: str) -> None:
    """Raise UnsupportedError unless the pool can count and limit what this user runs."""
    if not _USER.fullmatch(user):
        raise UnsupportedError(
            f"The site kbase counts what users run by their names, and '{user}' is not one of letters, digits "
            "and underscores that begins with no digit"
        )


def submit_description(job: JobSummary, setup: NodeSetup) -> dict[str, str]:
    """Return the submit description of a cluster with a process for each container.

    Raises UnsupportedError for values that a submit description cannot express.
    """
    check_user(job.user)
    settings = setup.settings
    name = f"cts-{job.id}-$({NUMBER})"
    files = f"{name}-container"
    description = {
        "shell": _shell(setup, files),
        "initialdir": settings.initialdir,
        "transfer_input_files": f"{setup.executable_url}, {setup.archive_url}",
        "environment": _environment(job, setup),
        "output": f"{name}.out",
        "error": f"{name}.err",
        "log": f"{name}.log",
        "transfer_output_files": f"{files}.out, {files}.err",
        "request_cpus": str(job.job_input.cpus),
        "request_memory": str(job.job_input.memory // _MIB),
        "want_graceful_removal": "True",
        "Concurrency_Limits": job.user,
        "MY.AccountingGroup": quoted(job.user),
        f"MY.{JOB_ID}": quoted(job.id),
        f"MY.{CONTAINER_NUMBER}": f"$({NUMBER})",
        "JobLeaseDuration": "43200",
        "MaxJobRetirementTime": "43200",
        "Periodic_Hold": "( RemoteWallClockTime > 604800 )",
        "Periodic_Remove": f"( JobStatus == 5 && time() - EnteredCurrentStatus > {_HELD_SECONDS} )",
        "on_exit_hold": "ExitCode =!= 0",
        "should_transfer_files": "yes",
        "when_to_transfer_output": "on_exit_or_evict",
        "getenv": "False",
    }
    if setup.has_own_tokens:
        # HTCondor would keep a spooled job in the queue after its end, unless told otherwise.
        description |= {
            "leave_in_queue": "False",
            "encrypt_input_files": token_name(f"$({NUMBER})"),
        }
    if settings.clientgroup:
        description["requirements"] = for_group(settings.clientgroup)
    return description


def itemdata(job: JobSummary) -> list[dict[str, str]]:
    """Return the values that differ between the processes of a job's cluster."""
    return [{NUMBER: str(number)} for number in range(job.job_input.num_containers)]


def token_name(number: object) -> str:
    """Return the name of the file with a container's token, in the folder where its worker starts."""
    return f"cts-token-{number}"


def _shell(setup: NodeSetup, files: str) -> str:
    script = _file_name(setup.executable_url)
    if setup.own is None:
        return f"bash {script}"
    # The script checks the code, but was fetched the same way. HTCondor transfers the files back, and would report
    # only that they are missing.
    is_changed = (
        "command -v sha256sum >/dev/null && "
        f"! echo '{setup.own().launcher_sha256}  {script}' | sha256sum -c - >/dev/null"
    )
    refuse = f"echo '{_CHANGED_SCRIPT}' >&2; touch {files}.out {files}.err; exit 1"
    # Without exec, HTCondor would ask only the shell to end, and then kill the worker.
    return f"if {is_changed}; then {refuse}; fi; exec bash {script}"


def _file_name(url: str) -> str:
    return posixpath.basename(urlsplit(url).path)


def _environment(job: JobSummary, setup: NodeSetup) -> str:
    settings, s3 = setup.settings, setup.s3
    external = settings.use_s3_external_url
    insecure = s3.allow_insecure_external if external else s3.allow_insecure
    values = {
        "JOB_ID": job.id,
        "CONTAINER_NUMBER": f"$({NUMBER})",
        "CODE_ARCHIVE": _file_name(setup.archive_url),
        **_code_hash(setup),
        "GLOBAL_CACHE_DIR": settings.cache_dir,
        "SERVICE_ROOT_URL": setup.root_url,
        **_credentials(setup),
        "S3_URL": (s3.external_url if external else "") or s3.url,
        "S3_ERROR_LOG_PATH": setup.log_dir.folder(job.id).rstrip("/"),
        "JOB_UPDATE_TIMEOUT_MIN": str(settings.job_update_timeout_min),
        "REFDATA_HOST_PATH": settings.refdata_host_path,
    }
    optional = {
        "MOUNT_PREFIX_OVERRIDE": settings.mount_prefix_override,
        "ADDITIONAL_PATH": settings.additional_path,
        "S3_INSECURE": "TRUE" if insecure else "",
        "CTS_LOG_LEVEL": settings.worker_log_level,
    }
    values |= {key: value for key, value in optional.items() if value}
    assignments = [f"{key}={_environment_value(value)}" for key, value in values.items()]
    return f'"{" ".join(assignments)}"'


def _code_hash(setup: NodeSetup) -> dict[str, str]:
    return {"CODE_ARCHIVE_SHA256": setup.own().archive_sha256} if setup.own else {}


def _credentials(setup: NodeSetup) -> dict[str, str]:
    if setup.has_own_tokens:
        return {"TOKEN_PATH": token_name(f"$({NUMBER})")}
    return {
        "TOKEN_PATH": setup.settings.token_path,
        "S3_ACCESS_KEY": setup.s3.access_key,
        "S3_SECRET_PATH": setup.settings.s3_secret_path,
    }


def _environment_value(text: str) -> str:
    """Quote a value in HTCondor's syntax: quotes are doubled, and a value with spaces is put in single quotes."""
    if "\n" in text or "\r" in text:
        raise UnsupportedError(f"HTCondor's environment holds no line breaks, as in {text!r}")
    text = text.replace('"', '""').replace("'", "''")
    return f"'{text}'" if " " in text or "\t" in text or "'" in text else text
