"""The errors that both record adapters raise, in the words that clients compare."""

from __future__ import annotations

import functools
import logging
import traceback

from cts_core.errors import (
    ImageDigestExistsError,
    ImageTagExistsError,
    NoSuchChecksumsError,
    NoSuchContainerError,
    NoSuchJobError,
    NoSuchRefdataError,
    RefdataExistsError,
    TooManyRequestsError,
    UnavailableError,
)
from cts_core.model.image import Image
from cts_core.model.site import SiteName

log = logging.getLogger(__name__)

CHECKSUMS_RETRY_AFTER_SECONDS = 10
"""When a client that has too many requests for checksums may try again."""

MAX_LOGGED = 1024
"""Jobs that are remembered as logged, so that each is logged once."""

UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError)
"""What parsing raises for a record of a newer version, or one that was edited by hand: a value, a field or a type is another."""


def log_unreadable(job_id: str | None, error: Exception) -> None:
    """Log once why the record of a job cannot be read, and what function could not."""
    *_, (_, _, function, _) = traceback.extract_tb(error.__traceback__)
    log_once(job_id, f"{error!r} in {function}")


@functools.lru_cache(MAX_LOGGED)
def log_once(job_id: str | None, reason: str) -> None:
    """Log why a record cannot be read, unless that was logged lately."""
    log.warning(
        "Job %s is left to servers of a newer version, or was edited by hand: %s", job_id, reason
    )


def records_closed() -> UnavailableError:
    """Return the error for an operation on a store that is not open."""
    return UnavailableError("The job records are closed: the service is stopping")


def too_many_waiting() -> UnavailableError:
    """Return the error for an operation beyond the number that may wait."""
    return UnavailableError("Too much waits for the job records: try again later")


def no_such_job(job_id: str) -> NoSuchJobError:
    """Return the error for a job that is not stored."""
    return NoSuchJobError(f"No job with ID '{job_id}' exists")


def no_such_checksums(task_id: str) -> NoSuchChecksumsError:
    """Return the error for a request for checksums that is not stored."""
    return NoSuchChecksumsError(f"No request for checksums with ID '{task_id}' exists")


def too_many_checksums(user: str, max_running: int) -> TooManyRequestsError:
    """Return the error for a request for checksums beyond the number that may run."""
    return TooManyRequestsError(
        f"{max_running} requests for checksums of user {user} run: ask again once one has ended",
        retry_after=CHECKSUMS_RETRY_AFTER_SECONDS,
    )


def no_such_container(job_id: str, number: int) -> NoSuchContainerError:
    """Return the error for a container that a stored job does not have."""
    return NoSuchContainerError(f"Job {job_id} has no container {number}")


def image_tag_exists(image: Image) -> ImageTagExistsError:
    """Return the error for an image whose name and tag, or name without a tag, are registered."""
    if image.tag:
        return ImageTagExistsError(f"The image {image.name} with tag '{image.tag}' exists already")
    return ImageTagExistsError(f"The image {image.name} without a tag exists already: give a tag")


def image_digest_exists(image: Image) -> ImageDigestExistsError:
    """Return the error for an image whose name and digest are registered."""
    return ImageDigestExistsError(
        f"The image {image.name} with digest {image.digest} exists already"
    )


def no_such_refdata(refdata_id: str) -> NoSuchRefdataError:
    """Return the error for reference data that is not registered."""
    return NoSuchRefdataError(f"No reference data with ID '{refdata_id}' exists")


def no_refdata_of_file(path: str) -> NoSuchRefdataError:
    """Return the error for a file that is not registered as reference data."""
    return NoSuchRefdataError(f"No reference data for the file '{path}' exists")


def refdata_exists(path: str) -> RefdataExistsError:
    """Return the error for a file that is registered as reference data already."""
    return RefdataExistsError(f"Reference data for the file '{path}' exists already")


def refdata_not_at_site(refdata_id: str, site: SiteName) -> NoSuchRefdataError:
    """Return the error for reference data that has no status at a site."""
    return NoSuchRefdataError(
        f"The reference data {refdata_id} is not at cluster {site.value}: it was never staged there"
    )
