"""The settings of services at KBase on the tests' servers: S3, KBase's auth, a registry and an HTCondor pool."""

from __future__ import annotations

from pathlib import Path

from tests.services.condor import INITIALDIR, CondorPool
from tests.services.registry import Registry
from tests.services.s3 import ACCESS_KEY, SECRET, S3Server
from tests.services.together import ADMIN_ROLES
from tests.simulators.kbase_auth import KBaseAuth


def store_and_auth(s3: S3Server, auth: KBaseAuth) -> dict[str, str]:
    """Return the environment variables that every service at KBase needs."""
    return {
        "CTS_S3__URL": s3.url,
        "CTS_S3__ACCESS_KEY": ACCESS_KEY,
        "CTS_S3__ACCESS_SECRET": SECRET,
        "CTS_KBASE__AUTH_URL": auth.url,
        "CTS_KBASE__ADMIN_ROLES": ADMIN_ROLES[0],
    }


def pool_and_registry(pool: CondorPool, registry: Registry) -> dict[str, str]:
    """Return the environment variables of a service that runs the registry's images in the pool."""
    return {
        "CTS_IMAGES__PLAIN_HTTP": registry.host,
        "CTS_IMAGES__PRIVATE_HOSTS": registry.host,
        "CTS_HTCONDOR__INITIALDIR": INITIALDIR,
        "CONDOR_CONFIG": str(pool.client_config()),
    }


def cts_at_kbase(
    home: Path, s3: S3Server, auth: KBaseAuth, registry: Registry, pool: CondorPool
) -> dict[str, str]:
    """Return the environment variables of a CTS with its records in ``home`` and its containers in the pool."""
    return {
        **store_and_auth(s3, auth),
        **pool_and_registry(pool, registry),
        "CTS_PRESET": "service",
        "CTS_HOME": str(home),
        "CTS_RECORDS": "sqlite",
        "CTS_EVENTS": "memory",
        "CTS_SITES": "kbase",
        "CTS_ALLOWED_PATHS": "data/{user}",
        "CTS_LOG_DIR": "logs/container_logs",
    }


def staging_at_kbase(
    folder: Path, data: Path, s3: S3Server, auth: KBaseAuth, cts_url: str
) -> dict[str, str]:
    """Return the environment variables of a service that stages the reference data of that CTS to ``data``."""
    return {
        **store_and_auth(s3, auth),
        "KBCTS_MODE": "refdata",
        "CTS_REFDATA__LOCAL_PATH": str(data),
        "CTS_REFDATA__METADATA_PATH": str(folder / "sums"),
        "CTS_REFDATA__CTS_URL": cts_url,
        "CTS_REFDATA__CTS_TOKEN": auth.add("stager", "CTS_REFDATA_SERVICE"),
        "CTS_REFDATA__MIN_FREE": "0",
    }
