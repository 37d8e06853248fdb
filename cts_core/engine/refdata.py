"""Reference data: registering, listing, updates from a staging service, recovering and cleaning."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from datetime import datetime

from cts_core.engine.input_checks import check_input
from cts_core.engine.outcome import UNEXPECTED
from cts_core.engine.sites import SiteDirectory
from cts_core.errors import (
    IllegalParameterError,
    NoSuchRefdataError,
    RefdataStateError,
    ResourceUnavailableError,
    UnsupportedError,
)
from cts_core.identity.identity import User
from cts_core.model.image import JobImage
from cts_core.model.job import JobInput
from cts_core.model.refdata import (
    ENDED,
    AdminReferenceData,
    AdminReferenceDataStatus,
    RefData,
    RefDataStateTransition,
    RefdataUpdate,
    ReferenceData,
    ReferenceDataState,
    states_between,
)
from cts_core.model.site import SiteName
from cts_core.object_paths import ObjectPath
from cts_core.objects.store import ObjectStore
from cts_core.records.store import RecordStore
from cts_core.worker.archives import ENDINGS

log = logging.getLogger(__name__)


class Refdata:
    """Manages reference data. Methods that take an id raise NoSuchRefdataError."""

    def __init__(
        self,
        store: RecordStore,
        objects: ObjectStore,
        sites: SiteDirectory,
        *,
        on_change: Callable[[], None],
    ) -> None:
        """``on_change`` is called when there is something to stage."""
        self._store = store
        self._objects = objects
        self._sites = sites
        self._on_change = on_change

    async def list(self) -> RefData:
        """Return all reference data, oldest registration first."""
        return RefData(data=[r.without_admin_fields() for r in await self._store.list_refdata()])

    async def get(self, refdata_id: str) -> ReferenceData:
        """Return the reference data with this id."""
        return (await self._store.get_refdata(refdata_id)).without_admin_fields()

    async def get_as_admin(self, refdata_id: str) -> AdminReferenceData:
        """Return the reference data with the fields for admins."""
        return await self._store.get_refdata(refdata_id)

    async def find(self, path: str) -> RefData:
        """Return the reference data of this file, if there is any."""
        try:
            refdata = await self._store.find_refdata(path)
        except NoSuchRefdataError:
            return RefData(data=[])
        return RefData(data=[refdata.without_admin_fields()])

    async def register(
        self, user: User, path: str, *, crc64nvme: str | None, unpack: bool
    ) -> ReferenceData:
        """Register an object, and stage it at every site that is active and available.

        Raises IllegalPathError, IllegalParameterError, PathNotFoundError, ChecksumMismatchError,
        ResourceUnavailableError if there is no such site, RefdataExistsError.
        """
        path = ObjectPath(path)
        if unpack and not path.endswith(ENDINGS):
            raise IllegalParameterError(
                f"Only files that end in {', '.join(ENDINGS)} can be unpacked, and '{path}' does not"
            )
        actual = await self._checksum(path, crc64nvme)
        now = await self._store.now()
        open_sites = await self._sites.usable()
        if not open_sites:
            raise ResourceUnavailableError(
                "There is no site that is active and available to stage the reference data at: try again once "
                "one is"
            )
        refdata = AdminReferenceData(
            registered_by=user.name,
            registered_on=now,
            file=path,
            crc64nvme=actual,
            id=str(uuid.uuid4()),
            unpack=unpack,
            statuses=[_created_status(site, now) for site in open_sites],
        )
        await self._store.add_refdata(refdata)
        self._on_change()
        return refdata.without_admin_fields()

    async def _checksum(self, path: ObjectPath, expected: str | None) -> str | None:
        (stored,) = await self._objects.head([path])
        return check_input(path, stored, expected).crc64nvme

    async def recover(self, refdata_id: str, site: SiteName) -> None:
        """Stage at a site that was not available at the registration.

        Raises NoSuchRefdataError for a site that was, ChecksumMismatchError if the file has changed,
        SiteInactiveError, SiteUnavailableError.
        """
        refdata = await self._store.get_refdata(refdata_id)
        already_registered = NoSuchRefdataError(
            f"Reference data {refdata_id} is registered for cluster {site.value} already: there is nothing "
            "to recover"
        )
        if refdata.at(site):
            raise already_registered
        await self._checksum(ObjectPath(refdata.file), refdata.crc64nvme)
        await self._sites.check_open(site)
        status = _created_status(site, await self._store.now())
        if not await self._store.add_refdata_site(refdata_id, status):
            raise already_registered
        self._on_change()

    async def clean(self, admin: User, refdata_id: str, site: SiteName, *, force: bool) -> None:
        """Remove what staging left at a site, once it has ended; never the data itself.

        With ``force`` this works in every state, and nothing is marked as cleaned. Raises IllegalParameterError.
        """
        status = await self._status(refdata_id, site)
        if not force:
            if status.cleaned:
                return
            if status.state not in ENDED:
                raise IllegalParameterError(
                    f"Reference data {refdata_id} is {status.state.value} at cluster {site.value}, and can "
                    "be cleaned once that has ended; force cleans it all the same"
                )
        await self._sites.get(site).clean_refdata(refdata_id)
        if force:
            log.warning(
                "Reference data %s was cleaned by force at %s for %s",
                refdata_id,
                site.value,
                admin.name,
            )
        else:
            await self._store.mark_refdata_cleaned(refdata_id, site)

    async def update(
        self,
        refdata_id: str,
        site: SiteName,
        state: ReferenceDataState,
        update: RefdataUpdate | None,
    ) -> None:
        """Apply a state update from a staging service. A repeated or late update changes nothing.

        Raises SiteUnavailableError, UnsupportedError, RefdataStateError for a state that cannot come next.
        """
        details = update or RefdataUpdate()
        takes_updates = self._sites.get(site).takes_updates
        while True:
            status = await self._status(refdata_id, site)
            if not takes_updates:
                raise UnsupportedError(
                    f"Reference data at cluster {site.value} is staged by this service itself"
                )
            steps = states_between(status.state, state)
            if not steps:
                return
            if steps != (state,):
                raise RefdataStateError(
                    f"Reference data {refdata_id} is {status.state.value} at cluster {site.value}, and cannot "
                    f"become {state.value} next"
                )
            if await self._store.transition_refdata(
                refdata_id,
                site,
                status.state,
                state,
                time=await self._store.now(),
                error=UNEXPECTED if state is ReferenceDataState.ERROR else None,
                admin_error=details.admin_error,
                traceback=details.traceback,
            ):
                self._on_change()
                return

    async def on_callback(self, refdata_id: str, site: SiteName) -> None:
        """Handle an unauthenticated callback that something happened at a site: look there now."""
        await self._status(refdata_id, site)
        if at := self._sites.find(site):
            at.nudge(refdata_id)
        self._on_change()

    async def check_job(self, job: JobInput, image: JobImage) -> None:
        """Check that the reference data of the image is staged at the job's site.

        Raises RefdataStateError if it is not complete.
        """
        if image.refdata_id is None:
            return
        refdata = await self._store.get_refdata(image.refdata_id)
        status = refdata.at(job.cluster)
        if status is None or status.state is not ReferenceDataState.COMPLETE:
            how = "not there" if status is None else status.state.value
            raise RefdataStateError(
                f"The image {image.name} needs reference data '{refdata.id}', which is {how} at cluster "
                f"{job.cluster.value}, and has to be complete"
            )

    async def _status(self, refdata_id: str, site: SiteName) -> AdminReferenceDataStatus:
        status = (await self._store.get_refdata(refdata_id)).at(site)
        if status is None:
            raise NoSuchRefdataError(
                f"No reference data with ID '{refdata_id}' exists at cluster {site.value}"
            )
        return status


def _created_status(site: SiteName, now: datetime) -> AdminReferenceDataStatus:
    created = ReferenceDataState.CREATED
    return AdminReferenceDataStatus(
        cluster=site,
        state=created,
        transition_times=[RefDataStateTransition(state=created, time=now)],
    )
