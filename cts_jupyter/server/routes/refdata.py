"""Routes for reference data: list, read, register, recover and clean it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, StringConstraints

from cts_core.model.base import Crc64Nvme, Id
from cts_core.model.refdata import AdminReferenceData, RefData, ReferenceData
from cts_core.model.site import SiteName
from cts_jupyter.server.http.call import Call
from cts_jupyter.server.http.route import Access, Route

PathText = Annotated[str, StringConstraints(min_length=5, max_length=1088)]


class RefdataPath(BaseModel):
    """The id of reference data."""

    refdata_id: Id


class RefdataSitePath(RefdataPath):
    """Reference data at one site."""

    cluster: SiteName


class FilePath(BaseModel):
    """The path of reference data's file."""

    s3_path: PathText


class NewRefdataPath(BaseModel):
    """The path of the file to register."""

    refdata_s3_path: PathText


class NewRefdataQuery(BaseModel):
    """The file's checksum, and whether it is unpacked when staged."""

    crc64nvme: Crc64Nvme | None = None
    unpack: bool = False


class CleanRefdataQuery(BaseModel):
    """Whether reference data is cleaned although it is still being staged."""

    force: bool = False


async def list_refdata(call: Call) -> RefData:
    """``GET /refdata``."""
    return await call.engine.refdata.list()


async def get_refdata(call: Call, path: RefdataPath) -> ReferenceData:
    """``GET /refdata/id/{refdata_id}``."""
    return await call.engine.refdata.get(path.refdata_id)


async def find_refdata(call: Call, path: FilePath) -> RefData:
    """``GET /refdata/path/{s3_path}``."""
    return await call.engine.refdata.find(path.s3_path)


async def admin_get_refdata(call: Call, path: RefdataPath) -> AdminReferenceData:
    """``GET /admin/refdata/{refdata_id}``."""
    return await call.engine.refdata.get_as_admin(path.refdata_id)


async def register_refdata(
    call: Call, path: NewRefdataPath, query: NewRefdataQuery
) -> ReferenceData:
    """``POST /admin/refdata/{refdata_s3_path}``."""
    return await call.engine.refdata.register(
        call.user, path.refdata_s3_path, crc64nvme=query.crc64nvme, unpack=query.unpack
    )


async def recover_refdata(call: Call, path: RefdataSitePath) -> None:
    """``PUT /admin/refdata/{refdata_id}/{cluster}/recover``."""
    await call.engine.refdata.recover(path.refdata_id, path.cluster)


async def clean_refdata(call: Call, path: RefdataSitePath, query: CleanRefdataQuery) -> None:
    """``DELETE /admin/refdata/{refdata_id}/{cluster}/clean``."""
    await call.engine.refdata.clean(call.user, path.refdata_id, path.cluster, force=query.force)


_ADMIN = "/admin/refdata"
_SITE = f"{_ADMIN}/{{refdata_id}}/{{cluster}}"
ROUTES = (
    Route("GET", "/refdata", list_refdata, Access.ANYONE, "All reference data"),
    Route("GET", "/refdata/id/{refdata_id}", get_refdata, Access.ANYONE, "Reference data by id"),
    Route(
        "GET",
        "/refdata/path/{s3_path:path}",
        find_refdata,
        Access.ANYONE,
        "Reference data by its file",
    ),
    Route(
        "GET",
        f"{_ADMIN}/{{refdata_id}}",
        admin_get_refdata,
        Access.ADMIN,
        "Reference data with its details for admins",
    ),
    Route(
        "PUT",
        f"{_SITE}/recover",
        recover_refdata,
        Access.ADMIN,
        "Stage at a site where it is not staged yet",
    ),
    Route(
        "DELETE",
        f"{_SITE}/clean",
        clean_refdata,
        Access.ADMIN,
        "Remove the temporary files of staging at a site, but not the data",
    ),
    Route(
        "POST",
        f"{_ADMIN}/{{refdata_s3_path:path}}",
        register_refdata,
        Access.ADMIN,
        "Register a file as reference data, and stage it",
    ),
)
