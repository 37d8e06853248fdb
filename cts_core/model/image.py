"""Registered images."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, HttpUrl, StringConstraints, model_validator

from cts_core.model.base import Closed, Record, UTCTime
from cts_core.model.parameters import EnvironmentKey

ImageName = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
UsageNotes = Annotated[str, StringConstraints(max_length=10000)]


class JobImage(Record):
    """An image as a job keeps it: as it was registered when the job was submitted."""

    registered_by: str
    registered_on: UTCTime
    name: str
    """Normalised, without tag and digest: ``docker.io/library/x``, or ``host/x`` on the local site."""
    digest: str
    entrypoint: list[str]
    tag: str = ""
    """Empty for an image without a tag: deployed clients index and sort by it."""
    refdata_id: str | None = None
    default_refdata_mount_point: str | None = None
    variables: list[str] | None = None
    """``host/…`` only: the variables that jobs may set where several users run the same programs."""


class Image(JobImage):
    """A registered image."""

    urls: list[str] | None = None
    usage_notes: UsageNotes | None = None

    def for_job(self) -> JobImage:
        """Return the fields that a job keeps."""
        return JobImage.model_validate(self.model_dump(include=set(JobImage.model_fields)))


class Images(Record):
    """Response of ``/images``."""

    data: list[Image]


class ImageHelp(Record):
    """Help that accompanies the error about an unregistered image."""

    nearest: list[str]
    """Registered images with similar names, the most similar first."""
    contact: str | None = None
    """The contact for a registration."""
    request: str
    """A text for the request to register the image."""
    command: str
    """The line of ``%cts`` by which an admin registers it."""


class ImageRegistration(Closed):
    """A registration of an image, without its name."""

    from_image: ImageName | None = None
    urls: Annotated[list[HttpUrl], Field(max_length=20)] | None = None
    usage_notes: UsageNotes | None = None
    executable: Annotated[str, StringConstraints(min_length=1, max_length=4096)] | None = None
    """``host/…`` only: the absolute path of a program of the server's machine."""
    interpreter: Annotated[str, StringConstraints(min_length=1, max_length=4096)] | None = None
    """``host/…`` only: the absolute path of the program that runs the executable, such as a Python for a file of Python."""
    module: (
        Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^\w+(\.\w+)*$")]
        | None
    ) = None
    """``host/…`` only: a Python module run as ``python -m`` by the server's interpreter."""
    variables: Annotated[list[EnvironmentKey], Field(max_length=100)] | None = None
    """``host/…`` only: the variables that jobs may set where several users run the same programs."""

    @model_validator(mode="after")
    def _one_program(self) -> Self:
        if self.executable is not None and self.module is not None:
            raise ValueError("Give either executable or module, not both")
        return self
