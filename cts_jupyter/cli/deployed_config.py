"""The setting that each key of the deployed service's configuration is translated to (docs/reference/contract.md §8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cts_core.config.settings import Preset


@dataclass(frozen=True)
class KeyMapping:
    """A key and its environment variable, and the setting that they are translated to, or why there is none."""

    section: str
    key: str
    variable: str
    setting: str | None = None
    convert: Callable[[str], Any] = str
    reason: str = ""
    is_secret: bool = False
    credentials: tuple[str, str] | None = None
    """The settings of the user and the password that its URL may hold."""


def _parse_flag(text: str) -> bool:
    return text.strip().lower() == "true"


def _parse_items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _parse_preset(mode: str) -> str:
    return mode if mode == Preset.REFDATA else Preset.SERVICE.value


def _parse_delay(minutes: str) -> bool:
    return float(minutes) >= 1


def _parse_prefixes(root_path: str) -> list[str]:
    return ["/", f"/{root_path.strip('/')}"]


BUILT_IN: Mapping[str, Any] = {
    "preset": Preset.SERVICE.value,
    "kafka.send_foreign": False,
    "prefixes": ["/"],
    "cors_origins": [
        "https://hub.berdl.kbase.us",
        "https://hub.dev.berdl.kbase.us",
        "https://hub.stage.berdl.kbase.us",
        "https://kbase.us",
        "https://narrative.kbase.us",
    ],
}
"""The settings of what the deployed service has in its code."""
PORT = "5000"
"""The port of the deployed service where ``KBCTS_PORT`` is not set."""
_FILE = "a file of the old image, whose worker CTS replaces by its own; to keep the old one, set htcondor.executable_path and htcondor.archive_path to where they are now"
_CRANE = "a file of the old image, and CTS asks registries itself; for one that needs crane, set images.crane_path"
_SITES = "the setting sites says which are on"

KEY_MAPPINGS: tuple[KeyMapping, ...] = (
    KeyMapping("Authentication", "url", "KBCTS_KBASE_AUTH2_URL", "kbase.auth_url"),
    KeyMapping(
        "Authentication",
        "admin_roles_full",
        "KBCTS_KBASE_AUTH2_ADMIN_ROLES",
        "kbase.admin_roles",
        _parse_items,
    ),
    KeyMapping("Authentication", "kbase_staff_role", "KBCTS_KBASE_STAFF_ROLE", "kbase.staff_role"),
    KeyMapping(
        "Authentication",
        "has_nersc_account_role",
        "KBCTS_HAS_NERSC_ACCOUNT_ROLE",
        "kbase.nersc_role",
    ),
    KeyMapping(
        "Authentication",
        "external_executor_role",
        "KBCTS_EXTERNAL_EXECUTOR_ROLE",
        "kbase.executor_role",
    ),
    KeyMapping(
        "Authentication", "refdata_service_role", "KBCTS_REFDATA_SERVICE_ROLE", "kbase.refdata_role"
    ),
    KeyMapping("NERSC_JAWS", "user", "KBCTS_NERSC_JAWS_USER", "jaws.user"),
    KeyMapping(
        "NERSC_JAWS",
        "refdata_root_dir",
        "KBCTS_NERSC_JAWS_REFDATA_DIR",
        "jaws.refdata_root_dir",
    ),
    KeyMapping(
        "NERSC_JAWS",
        "jaws_staging_dir_dtn",
        "KBCTS_NERSC_JAWS_DTN_STAGING_DIR",
        "jaws.staging_dir_dtn",
    ),
    KeyMapping(
        "NERSC_JAWS",
        "jaws_staging_dir_perlmutter",
        "KBCTS_NERSC_JAWS_PERMUTTER_STAGING_DIR",
        "jaws.staging_dir_perlmutter",
    ),
    KeyMapping("NERSC", "sfapi_cred_path", "KBCTS_SFAPI_CRED_PATH", "jaws.sfapi_cred_path"),
    KeyMapping("NERSC", "remote_code_dir", "KBCTS_NERSC_REMOTE_CODE_DIR", "jaws.remote_code_dir"),
    KeyMapping("JAWS", "url", "KBCTS_JAWS_URL", "jaws.url"),
    KeyMapping("JAWS", "token", "KBCTS_JAWS_TOKEN", "jaws.token", is_secret=True),
    KeyMapping("JAWS", "group", "KBCTS_JAWS_GROUP", "jaws.group"),
    KeyMapping("HTCondor", "initialdir", "KBCTS_HTC_INITIAL_DIR", "htcondor.initialdir"),
    KeyMapping("HTCondor", "clientgroup", "KBCTS_HTC_CLIENT_GROUP", "htcondor.clientgroup"),
    KeyMapping("HTCondor", "token_path", "KBCTS_HTC_TOKEN_PATH", "htcondor.token_path"),
    KeyMapping(
        "HTCondor",
        "s3_access_secret_path",
        "KBCTS_HTC_S3_ACCESS_SECRET_PATH",
        "htcondor.s3_secret_path",
    ),
    KeyMapping("HTCondor", "additional_path", "KBCTS_HTC_ADDL_PATH", "htcondor.additional_path"),
    KeyMapping("HTCondor", "cache_dir", "KBCTS_HTC_CACHE_DIR", "htcondor.cache_dir"),
    KeyMapping(
        "HTCondor",
        "use_S3_external_url",
        "KBCTS_HTC_USE_S3_EXTERNAL_URL",
        "htcondor.use_s3_external_url",
        _parse_flag,
    ),
    KeyMapping("HTCondor", "executable_path", "KBCTS_HTC_EXE_PATH", reason=_FILE),
    KeyMapping(
        "HTCondor",
        "executable_url_override",
        "KBCTS_HTC_EXE_URL_OVERRIDE",
        "htcondor.executable_url",
    ),
    KeyMapping(
        "ExternalExecution", "refserver_url", "KBCTS_REFDATA_SERVER_URL", "refdata.server_url"
    ),
    KeyMapping(
        "ExternalExecution",
        "refserver_token",
        "KBCTS_REFDATA_SERVER_TOKEN",
        "refdata.server_token",
        is_secret=True,
    ),
    KeyMapping(
        "ExternalExecution",
        "refdata_host_path",
        "KBCTS_REFDATA_HOST_PATH",
        "htcondor.refdata_host_path",
    ),
    KeyMapping(
        "ExternalExecution",
        "job_update_timeout_min",
        "KBCTS_EXTERNAL_JOB_UPDATE_TIMEOUT_MIN",
        "htcondor.job_update_timeout_min",
        int,
    ),
    KeyMapping(
        "ExternalExecution",
        "mount_prefix_override",
        "KBCTS_EXTERNAL_JOB_MOUNT_PREFIX_OVERRIDE",
        "htcondor.mount_prefix_override",
    ),
    KeyMapping("ExternalExecution", "archive_path", "KBCTS_CODE_ARCHIVE_PATH", reason=_FILE),
    KeyMapping(
        "ExternalExecution",
        "archive_url_override",
        "KBCTS_CODE_ARCHIVE_URL_OVERRIDE",
        "htcondor.archive_url",
    ),
    KeyMapping("S3", "url", "KBCTS_S3_URL", "s3.url"),
    KeyMapping("S3", "external_url", "KBCTS_S3_EXTERNAL_URL", "s3.external_url"),
    KeyMapping(
        "S3",
        "verify_external_url",
        "KBCTS_VERIFY_S3_EXTERNAL_URL",
        "s3.verify_external_url",
        _parse_flag,
    ),
    KeyMapping("S3", "access_key", "KBCTS_S3_ACCESS_KEY", "s3.access_key"),
    KeyMapping("S3", "access_secret", "KBCTS_S3_ACCESS_SECRET", "s3.access_secret", is_secret=True),
    KeyMapping("S3", "allow_insecure", "KBCTS_S3_ALLOW_INSECURE", "s3.allow_insecure", _parse_flag),
    KeyMapping(
        "S3",
        "allow_insecure_external",
        "KBCTS_S3_ALLOW_INSECURE_EXTERNAL",
        "s3.allow_insecure_external",
        _parse_flag,
    ),
    KeyMapping(
        "MongoDB",
        "mongo_host",
        "KBCTS_MONGO_HOST",
        "mongo.host",
        credentials=("mongo.user", "mongo.password"),
    ),
    KeyMapping("MongoDB", "mongo_db", "KBCTS_MONGO_DB", "mongo.db"),
    KeyMapping("MongoDB", "mongo_user", "KBCTS_MONGO_USER", "mongo.user"),
    KeyMapping("MongoDB", "mongo_pwd", "KBCTS_MONGO_PWD", "mongo.password", is_secret=True),
    KeyMapping(
        "MongoDB", "mongo_retrywrites", "KBCTS_MONGO_RETRYWRITES", "mongo.retry_writes", _parse_flag
    ),
    KeyMapping("Jobs", "allowed_s3_paths", "KBCTS_ALLOWED_S3_PATHS", "allowed_paths", _parse_items),
    KeyMapping("Jobs", "container_s3_log_dir", "KBCTS_CONTAINER_S3_LOG_DIR", "log_dir"),
    KeyMapping("Jobs", "max_cpu_hours", "KBCTS_JOB_MAX_CPU_HOURS", "max_cpu_hours", float),
    KeyMapping(
        "Jobs",
        "clean_frequency_hours",
        "KBCTS_JOB_CLEAN_FREQUENCY_HOURS",
        "clean_frequency_hours",
        float,
    ),
    KeyMapping("Jobs", "clean_age_days", "KBCTS_CLEAN_AGE_DAYS", "clean_age_days", float),
    KeyMapping(
        "Kafka",
        "bootstrap_servers",
        "KBCTS_KAFKA_BOOTSTRAP_SERVERS",
        "kafka.bootstrap_servers",
        _parse_items,
    ),
    KeyMapping("Kafka", "topic_jobs", "KBCTS_KAFKA_TOPIC_JOBS", "kafka.topic"),
    KeyMapping(
        "Kafka",
        "check_unsent_messages_on_startup_delay_min",
        "KBCTS_KAFKA_STARTUP_UNSENT_MSG_DELAY_MIN",
        "kafka.send_foreign",
        _parse_delay,
    ),
    KeyMapping("Images", "crane_path", "KBCTS_CRANE_PATH", reason=_CRANE),
    KeyMapping("Service", "root_url", "KBCTS_SERVICE_ROOT_URL", "root_url"),
    KeyMapping("Service", "root_path", "KBCTS_SERVICE_ROOT_PATH", "prefixes", _parse_prefixes),
    KeyMapping("Service", "group_id", "KBCTS_SERVICE_GROUP", "group"),
    KeyMapping("CTS", "cts_root_url", "", "refdata.cts_url"),
    KeyMapping(
        "CTS",
        "cts_refdata_token",
        "KBCTS_REFDATA_SERVICE_TOKEN",
        "refdata.cts_token",
        is_secret=True,
    ),
    KeyMapping("Refdata", "local_path", "KBCTS_REFDATA_LOCAL_PATH", "refdata.local_path"),
    KeyMapping("Refdata", "metadata_path", "KBCTS_REFDATA_METADATA_PATH", "refdata.metadata_path"),
    KeyMapping("Authentication", "cts_role", "KBCTS_TASK_SERVICE_ROLE", "kbase.cts_role"),
    KeyMapping("", "", "KBCTS_PORT", reason="said at start: jupyter cts --port"),
    KeyMapping("", "", "KBCTS_MODE", "preset", _parse_preset),
    KeyMapping("", "", "CTS_LOG_LEVEL", reason="said at start: jupyter cts --log-level"),
    KeyMapping("", "", "JAWS_HTTPS_PROXY", "jaws.proxy"),
    KeyMapping("", "", "KBCTS_TEST_MODE", "test_mode", _parse_flag),
    KeyMapping("", "", "KBCTS_SKIP_NERSC", reason=_SITES),
    KeyMapping("", "", "KBCTS_SKIP_KBASE", reason=_SITES),
)
"""All keys of the deployed configuration; one without a section is an environment variable alone."""

IN_FILE = {(mapping.section, mapping.key): mapping for mapping in KEY_MAPPINGS if mapping.section}
IN_ENVIRONMENT = {mapping.variable: mapping for mapping in KEY_MAPPINGS if mapping.variable}
