"""Routes for images: list, read, register and delete them."""

from __future__ import annotations

from pydantic import BaseModel

from cts_core.model.base import Id, MountPoint
from cts_core.model.image import Image, ImageName, ImageRegistration, Images
from cts_jupyter.server.http.call import Call
from cts_jupyter.server.http.route import Access, Route


class ImagePath(BaseModel):
    """An image's name, with a tag, a digest or neither."""

    image_id: ImageName


class RegistrationQuery(BaseModel):
    """The reference data of an image, and where it is mounted by default."""

    refdata_id: Id | None = None
    default_refdata_mount_point: MountPoint | None = None


async def list_images(call: Call) -> Images:
    """``GET /images``."""
    return await call.engine.images.list()


async def get_image(call: Call, path: ImagePath) -> Image:
    """``GET /images/{image_id}``."""
    return await call.engine.images.find(path.image_id)


async def register_image(
    call: Call, path: ImagePath, query: RegistrationQuery, body: ImageRegistration | None
) -> Image:
    """``POST /admin/images/{image_id}``."""
    return await call.engine.images.register(
        call.user,
        path.image_id,
        body or ImageRegistration(),
        refdata_id=query.refdata_id,
        default_refdata_mount_point=query.default_refdata_mount_point,
    )


async def delete_image(call: Call, path: ImagePath) -> None:
    """``DELETE /admin/images/{image_id}``."""
    await call.engine.images.delete(call.user, path.image_id)


_IMAGE = "/images/{image_id:path}"
ROUTES = (
    Route("GET", "/images", list_images, Access.ANYONE, "All registered images"),
    Route("GET", _IMAGE, get_image, Access.ANYONE, "A registered image"),
    Route("POST", f"/admin{_IMAGE}", register_image, Access.ADMIN, "Register an image"),
    Route("DELETE", f"/admin{_IMAGE}", delete_image, Access.ADMIN, "Unregister an image"),
)
