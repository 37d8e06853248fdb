"""The contract of record stores: reference data."""

from __future__ import annotations

import asyncio

import pytest

from cts_core.errors import NoSuchRefdataError, RefdataExistsError
from cts_core.model.refdata import ReferenceDataState
from cts_core.model.site import SiteName
from tests.harness.factories import NOON, make_refdata, make_refdata_status
from tests.harness.records import SECOND

CREATED, STAGING = ReferenceDataState.CREATED, ReferenceDataState.DOWNLOAD_SUBMITTED
COMPLETE, ERROR = ReferenceDataState.COMPLETE, ReferenceDataState.ERROR


async def test_refdata_comes_back_as_it_was_stored(store, other):
    refdata = make_refdata(
        statuses=[
            make_refdata_status(),
            make_refdata_status(cluster=SiteName.KBASE, nersc_download_task_id=["1", "2"]),
        ]
    )
    bare = make_refdata(file="data/ü", crc64nvme=None, unpack=False, statuses=[])
    await store.add_refdata(refdata)
    await store.add_refdata(bare)
    for registered in (refdata, bare):
        assert await other.get_refdata(registered.id) == registered
        assert await other.find_refdata(registered.file) == registered


async def test_refdata_is_listed_in_order_of_registration(store):
    later, first, second = (
        make_refdata(file=f"data/{n}", registered_on=NOON + seconds * SECOND)
        for n, seconds in enumerate((5, 0, 1))
    )
    assert await store.list_refdata() == []
    for refdata in (later, first, second):
        await store.add_refdata(refdata)
    assert await store.list_refdata() == [first, second, later]


async def test_a_file_is_registered_once(store, other):
    answers = await asyncio.gather(
        *(s.add_refdata(make_refdata()) for s in [store, other] * 5), return_exceptions=True
    )
    refused = [answer for answer in answers if answer is not None]
    assert len(refused) == 9
    for error in refused:
        assert isinstance(error, RefdataExistsError)
        assert "'data/ref/db.tar.gz'" in str(error)
    assert len(await store.list_refdata()) == 1


async def test_a_site_is_added_once(store):
    refdata = make_refdata()
    await store.add_refdata(refdata)
    kbase = make_refdata_status(cluster=SiteName.KBASE)
    assert await store.add_refdata_site(refdata.id, kbase)
    assert not await store.add_refdata_site(refdata.id, kbase.model_copy(update={"state": ERROR}))
    assert (await store.get_refdata(refdata.id)).statuses == [*refdata.statuses, kbase]


async def test_refdata_moves_at_one_site(store, other):
    refdata = make_refdata()
    await store.add_refdata(refdata)
    await store.add_refdata_site(refdata.id, make_refdata_status(cluster=SiteName.KBASE))
    assert await store.transition_refdata(
        refdata.id, SiteName.KBASE, CREATED, STAGING, time=NOON + SECOND, task_ids=["t1", "t2"]
    )
    assert await other.transition_refdata(
        refdata.id,
        SiteName.KBASE,
        STAGING,
        ERROR,
        time=NOON,
        error="The archive is broken",
        admin_error="tar: ü",
        traceback="line 1\nline 2",
    )
    local, kbase = (await store.get_refdata(refdata.id)).statuses
    assert local == refdata.statuses[0]
    assert kbase.state is ERROR
    # The last time was earlier, by another clock.
    assert [(t.state, t.time - NOON) for t in kbase.transition_times] == [
        (CREATED, 0 * SECOND),
        (STAGING, SECOND),
        (ERROR, SECOND),
    ]
    assert (kbase.error, kbase.admin_error) == ("The archive is broken", "tar: ü")
    assert kbase.traceback == "line 1\nline 2"
    assert kbase.nersc_download_task_id == ["t1", "t2"]


async def test_of_concurrent_transitions_one_moves_the_refdata(store, other):
    refdata = make_refdata()
    await store.add_refdata(refdata)
    won = await asyncio.gather(
        *(
            s.transition_refdata(refdata.id, SiteName.LOCAL, CREATED, new, time=NOON, error=new)
            for s in (store, other)
            for new in (STAGING, ERROR) * 5
        )
    )
    assert sum(won) == 1
    (status,) = (await store.get_refdata(refdata.id)).statuses
    assert [t.state for t in status.transition_times] == [CREATED, status.state]
    assert status.error == status.state


async def test_refdata_is_cleaned(store):
    refdata = make_refdata()
    await store.add_refdata(refdata)
    await store.add_refdata_site(refdata.id, make_refdata_status(cluster=SiteName.KBASE))
    await store.mark_refdata_cleaned(refdata.id, SiteName.KBASE)
    await store.mark_refdata_cleaned(refdata.id, SiteName.KBASE)
    assert [s.cleaned for s in (await store.get_refdata(refdata.id)).statuses] == [False, True]


@pytest.mark.parametrize(
    "call",
    [
        lambda store, _: store.get_refdata("none"),
        lambda store, _: store.find_refdata("data/none"),
        lambda store, _: store.add_refdata_site("none", make_refdata_status()),
        lambda store, _: store.mark_refdata_cleaned("none", SiteName.LOCAL),
        lambda store, _: store.transition_refdata(
            "none", SiteName.LOCAL, CREATED, STAGING, time=NOON
        ),
        lambda store, refdata: store.mark_refdata_cleaned(refdata.id, SiteName.KBASE),
        lambda store, refdata: store.transition_refdata(
            refdata.id, SiteName.KBASE, CREATED, STAGING, time=NOON
        ),
    ],
)
async def test_no_such_refdata(store, call):
    refdata = make_refdata()
    await store.add_refdata(refdata)
    with pytest.raises(NoSuchRefdataError, match=r"none|kbase"):
        await call(store, refdata)
    assert await store.list_refdata() == [refdata]
