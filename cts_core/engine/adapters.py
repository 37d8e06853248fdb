"""Construction of the adapter behind each port. Only the adapters that the settings choose are imported."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from typing_extensions import override

from cts_core.config.sections import ImageSettings
from cts_core.config.settings import Preset, S3Settings, Settings
from cts_core.engine.worker_code import WorkerCode
from cts_core.engine.worker_tokens import WorkerTokens
from cts_core.errors import ConfigError
from cts_core.events.publisher import Topic
from cts_core.identity.identity import Identity
from cts_core.images.names import ImageReference
from cts_core.images.source import ImageSource, RegistryImage
from cts_core.model.site import SITES_AT_JAWS, SiteName
from cts_core.objects.store import ObjectStore
from cts_core.records.store import RecordStore
from cts_core.sites.site import PlanMaker, Site
from cts_core.worker.s3.credentials import KeySigner, S3Keys
from cts_core.worker.s3.requests import RequestSigner


def kbase_identity(settings: Settings) -> Identity:
    """Return identity by KBase's auth service. Raises ConfigError."""
    from cts_core.identity.kbase import KBaseIdentity  # noqa: PLC0415 - see the module

    # Only CTS itself refuses admins who lack the roles that its sites need (docs/reference/contract.md §2).
    is_staging = settings.preset is Preset.REFDATA
    return KBaseIdentity(settings.kbase, complete_admins=not is_staging)


def record_store(settings: Settings) -> RecordStore:
    """Return the record store. Raises ConfigError."""
    if settings.records == "sqlite":
        from cts_core.records.sqlite.store import SQLiteStore  # noqa: PLC0415 - see the module

        return SQLiteStore(settings.home / "records.sqlite")
    if settings.records == "mongo":
        try:
            from cts_core.records.mongo.store import MongoStore  # noqa: PLC0415 - see the module
        except ImportError as e:
            raise ConfigError(
                "records: mongo needs pymongo; pip install 'cts-jupyter[mongo]'"
            ) from e
        return MongoStore(settings.mongo)
    raise _not_available("records", settings.records)


def object_store(settings: Settings) -> ObjectStore:
    """Return the object store. Raises ConfigError."""
    if settings.objects == "directory":
        from cts_core.objects.directory import DirectoryStore  # noqa: PLC0415 - see the module

        return DirectoryStore(settings.objects_dir)
    try:
        from cts_core.objects.s3.store import S3Store  # noqa: PLC0415 - see the module
    except ImportError as e:
        raise ConfigError("objects: s3 needs boto3; pip install 'cts-jupyter[s3]'") from e
    return S3Store(settings.s3)


def image_source(settings: Settings) -> ImageSource:
    """Return the client of image registries."""
    if settings.images.crane_path:
        from cts_core.images.crane import Crane  # noqa: PLC0415 - see the module

        return Crane(settings.images)
    return _LazyRegistry(settings.images)


class _LazyRegistry(ImageSource):
    """Images of registries by HTTP. Its client is imported for the first of them: it takes long, and few images are registered."""

    def __init__(self, settings: ImageSettings) -> None:
        self._settings = settings
        self._registry: ImageSource | None = None
        self._lock = asyncio.Lock()

    @override
    async def look_up(self, reference: ImageReference) -> RegistryImage:
        async with self._lock:
            if self._registry is None:
                self._registry = await asyncio.to_thread(self._make)
        return await self._registry.look_up(reference)

    def _make(self) -> ImageSource:
        from cts_core.images.registry import HttpRegistry  # noqa: PLC0415 - see the class

        return HttpRegistry(self._settings)


def topic(settings: Settings) -> Topic | None:
    """Return the topic to which events are published besides the hub, if any. Raises ConfigError."""
    if settings.events == "memory":
        return None
    try:
        from cts_core.events.kafka.topic import KafkaTopic  # noqa: PLC0415 - see the module
    except ImportError as e:
        raise ConfigError(
            "events: kafka needs kafka-python; pip install 'cts-jupyter[kafka]'"
        ) from e
    return KafkaTopic(settings.kafka)


def sites(
    settings: Settings, store: RecordStore, objects: ObjectStore, *, looks_only: bool = False
) -> Mapping[SiteName, Site]:
    """Return the sites at which jobs may run; with ``looks_only`` opening one changes nothing at it. Raises ConfigError."""
    by_site: dict[SiteName, Site] = {}
    if SiteName.LOCAL in settings.sites:
        from cts_core.sites.local.site import LocalSite  # noqa: PLC0415 - see the module

        is_directory = settings.objects == "directory"
        by_site[SiteName.LOCAL] = LocalSite(
            settings.home / "local",
            settings.local,
            objects=objects,
            objects_root=settings.objects_dir if is_directory else None,
            log_dir=settings.log_folder,
            keys=None if is_directory else _worker_keys(settings.s3),
            plain_http=settings.images.plain_http,
            takes_programs=settings.takes_programs,
            private_folders=[settings.home, settings.objects_dir]
            if settings.identity == "kbase"
            else None,
        )
    if SiteName.KBASE in settings.sites:
        from cts_core.sites.htcondor.refdata_client import RefdataClient  # noqa: PLC0415 - see the module
        from cts_core.sites.htcondor.site import HTCondorSite  # noqa: PLC0415 - see the module
        from cts_core.sites.htcondor.submit_description import NodeSetup  # noqa: PLC0415 - see the module
        from cts_core.sites.htcondor.worker_archive import checked_pack  # noqa: PLC0415 - see the module

        own = checked_pack() if settings.htcondor.sends_own_worker else None
        setup = NodeSetup(
            settings.root_url, settings.s3, settings.log_folder, settings.htcondor, own
        )
        by_site[SiteName.KBASE] = HTCondorSite(
            setup,
            WorkerTokens(store),
            WorkerCode(objects, log_dir=settings.log_folder),
            RefdataClient(settings.refdata) if settings.refdata.server_url else None,
        )
    if at_jaws := SITES_AT_JAWS.intersection(settings.sites):
        by_site |= _jaws_sites(settings, sorted(at_jaws), store, objects, looks_only=looks_only)
    return by_site


def _jaws_sites(
    settings: Settings,
    names: Sequence[SiteName],
    store: RecordStore,
    objects: ObjectStore,
    *,
    looks_only: bool,
) -> Mapping[SiteName, Site]:
    try:
        from cts_core.sites.jaws.facility import Facility  # noqa: PLC0415 - see the module
        from cts_core.sites.jaws.setup import JAWSSetup  # noqa: PLC0415 - see the module
        from cts_core.sites.jaws.site import JAWSSite  # noqa: PLC0415 - see the module

        if settings.jaws.proxy.startswith("socks"):
            import socksio  # noqa: F401, PLC0415 - httpx imports it at the first call
    except ImportError as e:
        raise ConfigError(
            f"sites: {names[0].value} needs PyJWT, cryptography and httpx[socks]; pip install 'cts-jupyter[jaws]'"
        ) from e
    from cts_core.objects.s3.store import S3Store  # noqa: PLC0415 - see the module

    if not isinstance(objects, S3Store):
        raise ConfigError(f"sites: {names[0].value} needs objects: s3")
    jaws = settings.jaws
    setup = JAWSSetup(
        group=settings.group,
        user=jaws.user,
        sfapi_cred_path=Path(jaws.sfapi_cred_path),
        refdata_root=jaws.refdata_root_dir,
        staging_dir_dtn=jaws.staging_dir_dtn,
        staging_dir_perlmutter=jaws.staging_dir_perlmutter,
        remote_code_dir=jaws.remote_code_dir,
        jaws_token=jaws.token,
        log_dir=settings.log_folder,
        root_url=settings.root_url,
        jaws_url=jaws.url,
        jaws_proxy=jaws.proxy,
        jaws_group=jaws.group,
        sfapi_url=jaws.sfapi_url,
        sfapi_beta_url=jaws.sfapi_beta_url,
        sfapi_token_url=jaws.sfapi_token_url,
        takes_jobs_while_away=jaws.accept_while_down,
        max_calls_s=jaws.max_calls_s,
        timeout_s=jaws.timeout_s,
        insecure_ssl=settings.s3.allow_insecure_external,
        looks_only=looks_only,
    )
    facility = Facility(setup)
    return {name: JAWSSite(name, facility, store, objects) for name in names}


def worker_signer(settings: Settings) -> RequestSigner | None:
    """Return the signer of requests to S3 at the URL that nodes use; None without nodes or without S3."""
    if settings.objects != "s3" or SiteName.KBASE not in settings.sites:
        return None
    s3, is_external = settings.s3, settings.htcondor.use_s3_external_url
    url = (s3.external_url if is_external else "") or s3.url
    return KeySigner(S3Keys(url, s3.region, s3.access_key, s3.access_secret.get_secret_value()))


def worker_plan_maker(settings: Settings) -> PlanMaker | None:
    """Return the function by which the site kbase makes plans for its workers; None without that site."""
    if SiteName.KBASE not in settings.sites:
        return None
    from cts_core.sites.htcondor.worker_plan import plan_maker  # noqa: PLC0415 - see the module

    return plan_maker(settings)


def _worker_keys(s3: S3Settings) -> S3Keys:
    """Return the keys for workers on this machine, which use the same URL as the server."""
    from cts_core.objects.s3.client import trust  # noqa: PLC0415 - see the module

    return S3Keys(
        s3.url,
        s3.region,
        s3.access_key,
        s3.access_secret.get_secret_value(),
        timeout=s3.timeout_s,
        ca_file=None if s3.allow_insecure else str(trust(insecure=False)),
        insecure=s3.allow_insecure,
    )


def _not_available(setting: str, choice: str) -> ConfigError:
    return ConfigError(f"{setting}: {choice} is not available in this release")
