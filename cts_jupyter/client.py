"""A client of any CTS service, for notebooks, scripts and our own magics. Blocking."""

from __future__ import annotations

import functools
import secrets
import ssl
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self
from urllib.parse import quote

from pydantic import BaseModel

from cts_core.checksum import PIECE, Crc64Nvme
from cts_jupyter.answers import (
    CheckResult,
    Container,
    Image,
    JobDetails,
    JobPreview,
    JobStatus,
    ObjectPage,
    Root,
    Site,
    StoredObject,
    WhoAmI,
)
from cts_jupyter.connection import Connection
from cts_jupyter.events import EventStream
from cts_jupyter.transport import (
    SLOW_READ_SECONDS,
    TRIES,
    CTSClientError,
    CTSConnectionError,
    CTSRequestError,
    Transport,
    wait_seconds,
)

__all__ = ["CTSClient", "CTSClientError", "CTSConnectionError", "CTSRequestError", "JobDetails"]

_KEY_HEADER = "Idempotency-Key"
_CRC_HEADER = "x-amz-checksum-crc64nvme"
_UNKNOWN_URL = 40000


class CTSClient:
    """Every method raises CTSRequestError when the service refuses, CTSConnectionError when it is away."""

    def __init__(
        self, url: str, token: Callable[[], str | None], *, verify: ssl.SSLContext | bool = True
    ) -> None:
        """``token`` is asked at each request; ``verify`` is httpx's."""
        self.url = url.rstrip("/")
        self._transport = Transport(url, token, verify=verify)

    @classmethod
    def of(cls, connection: Connection) -> Self:
        """A client of a service that :func:`cts_jupyter.connection.find_connection` has found."""
        return cls(connection.url, connection.token, verify=connection.tls())

    def close(self) -> None:
        """Close every connection."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # The service.

    def root(self) -> Root:
        """What the service says of itself."""
        return Root.model_validate(self._get(""))

    def whoami(self) -> WhoAmI:
        """What the service knows of us."""
        return WhoAmI.model_validate(self._get("whoami"))

    def sites(self) -> list[Site]:
        """The sites where jobs run."""
        return [Site.model_validate(site) for site in self._get("sites")["sites"]]

    def images(self) -> list[Image]:
        """All registered images."""
        return [Image.model_validate(image) for image in self._get("images")["data"]]

    def image(self, image_id: str) -> Image:
        """The registered image of this name."""
        return Image.model_validate(self._get(f"images/{_in_path(image_id)}"))

    def register_image(self, image_id: str, **registration: str | list[str]) -> Image:
        """Register an image; ``registration`` are the fields of the contract's ImageRegistration."""
        return Image.model_validate(
            self._transport.json("POST", f"admin/images/{_in_path(image_id)}", json=registration)
        )

    def delete_image(self, image_id: str) -> None:
        """Unregister an image."""
        self._transport.json("DELETE", f"admin/images/{_in_path(image_id)}")

    # Jobs.

    def submit(
        self, body: Mapping[str, Any] | BaseModel, idempotency_key: str | None = None
    ) -> str:
        """Submit a job and return its id.

        Sends a key of its own if none is given, so that a broken connection is safe to repeat, unless the
        service is one that does not know such keys: then the error says that the outcome is unknown.
        """
        repeatable = self._knows_keys
        try:
            answer = self._transport.json(
                "POST",
                "jobs",
                json=_as_json(body),
                headers={_KEY_HEADER: idempotency_key or str(uuid.uuid4())},
                repeatable=repeatable,
                read_seconds=SLOW_READ_SECONDS,
            )
        except CTSConnectionError as e:
            if not e.may_have_arrived:
                raise
            raise CTSConnectionError(
                f"{e}. Whether the job was stored before that is not known: look at your jobs before you submit "
                "it again",
                may_have_arrived=True,
            ) from e
        return str(answer["job_id"])

    @functools.cached_property
    def _knows_keys(self) -> bool:
        try:
            description = self._get("openapi.json")
            parameters = description["paths"]["/jobs"]["post"].get("parameters", ())
        except (CTSRequestError, LookupError, TypeError):
            return False
        return any(parameter.get("name") == _KEY_HEADER for parameter in parameters)

    def check(self, body: Mapping[str, Any] | BaseModel) -> CheckResult:
        """The job as it would run; submits nothing."""
        try:
            answer = self._transport.json(
                "POST",
                "jobs/check",
                json=_as_json(body),
                repeatable=True,
                read_seconds=SLOW_READ_SECONDS,
            )
        except CTSRequestError as e:
            if e.status != HTTPStatus.METHOD_NOT_ALLOWED and e.appcode != _UNKNOWN_URL:
                raise
            raise CTSRequestError(
                f"The service at {self.url} cannot check a job without running it; nothing was submitted",
                status=e.status,
                appcode=e.appcode,
                request_id=e.request_id,
            ) from e
        return CheckResult.model_validate(answer)

    def jobs(
        self,
        *,
        cluster: str | None = None,
        state: str | None = None,
        after: datetime | None = None,
        before: datetime | None = None,
        labels: Mapping[str, str] | None = None,
        limit: int | None = None,
    ) -> list[JobPreview]:
        """One's own jobs that match, newest update first; times must have a time zone."""
        query = _query(
            cluster=cluster,
            state=state,
            after=after and after.isoformat(),
            before=before and before.isoformat(),
            limit=limit,
            label=[f"{key}={value}" for key, value in (labels or {}).items()] or None,
        )
        return [JobPreview.model_validate(job) for job in self._get("jobs", query)["jobs"]]

    def job(self, job_id: str) -> JobDetails:
        """A job, whole."""
        return JobDetails.model_validate(self._get(f"jobs/{_in_path(job_id)}"))

    def status(self, job_id: str) -> JobStatus:
        """A job's state and its history."""
        return JobStatus.model_validate(self._get(f"jobs/{_in_path(job_id)}/status"))

    def containers(self, job_id: str) -> list[Container]:
        """A job's containers by number."""
        found = self._get(f"jobs/{_in_path(job_id)}/containers")["containers"]
        return [Container.model_validate(container) for container in found]

    def exit_codes(self, job_id: str) -> list[int | None]:
        """Exit codes by container; None for one that has none (yet)."""
        return list(self._get(f"jobs/{_in_path(job_id)}/exit_codes")["exit_codes"])

    def cancel(self, job_id: str) -> None:
        """Have a job stopped."""
        self._transport.json("PUT", f"jobs/{_in_path(job_id)}/cancel")

    def log(
        self, job_id: str, number: int, stream: str, *, seek: int = 0, length: int | None = None
    ) -> bytes:
        """A container's ``stdout`` or ``stderr`` from byte ``seek`` on, at most ``length``."""
        return b"".join(self.stream_log(job_id, number, stream, seek=seek, length=length))

    def stream_log(
        self, job_id: str, number: int, stream: str, *, seek: int = 0, length: int | None = None
    ) -> Iterator[bytes]:
        """The same, piece by piece."""
        path = f"jobs/{_in_path(job_id)}/log/{number}/{stream}"
        with self._transport.stream(
            "GET", path, params=_query(seek=seek, length=length)
        ) as response:
            yield from self._transport.pieces(response)

    def events(self, *, after: datetime | None = None, job: str | None = None) -> EventStream:
        """Events of one's own jobs, or of one, from ``after`` or from now; see EventStream."""
        return EventStream(self._transport, after=after, job=job)

    # Files.

    def files(
        self, prefix: str, *, after: str | None = None, limit: int = 1000, folders: bool = False
    ) -> ObjectPage:
        """One page of the objects that start with a prefix."""
        query = _query(prefix=prefix, after=after, limit=limit, folders=folders or None)
        return ObjectPage.model_validate(self._get("files", query))

    def iter_files(self, prefix: str) -> Iterator[StoredObject]:
        """All objects that start with a prefix."""
        page = self.files(prefix)
        yield from page.objects
        while page.next is not None:
            page = self.files(prefix, after=page.next)
            yield from page.objects

    def download(self, path: str, target: Path) -> str | None:
        """Fetch an object into a file, whole or not at all; goes on where a connection broke.

        Returns the CRC64/NVME that the bytes were compared with; None for an object that has none. Raises
        CTSClientError when they differ, and OSError.
        """
        draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        try:
            with draft.open("xb") as file:
                checksum = self._fetch(path, file)
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
        return checksum

    def _fetch(self, path: str, file: BinaryIO) -> str | None:
        crc = Crc64Nvme()
        etag = expected = None
        done = 0
        for attempt in range(1, TRIES + 1):
            try:
                with self._content(path, done) as (headers, pieces):
                    if attempt == 1 or etag is None:
                        etag, expected = headers.get("etag"), headers.get(_CRC_HEADER)
                    elif headers.get("etag") != etag:
                        raise CTSClientError(f"{path} was replaced while it was read: try again")
                    for piece in pieces:
                        file.write(piece)
                        crc.update(piece)
                        done += len(piece)
                break
            except CTSConnectionError:
                if attempt == TRIES:
                    raise
                time.sleep(wait_seconds(attempt))
        if expected is not None and crc.text() != expected:
            raise CTSClientError(
                f"The bytes that came for {path} have the CRC64/NVME {crc.text()}, and the service has "
                f"{expected}: nothing was kept"
            )
        return expected

    @contextmanager
    def _content(self, path: str, seek: int) -> Iterator[tuple[Mapping[str, str], Iterator[bytes]]]:
        query = _query(path=path, seek=seek or None)
        with self._transport.stream("GET", "files/content", params=query) as response:
            yield response.headers, self._transport.pieces(response)

    def upload(self, source: Path, path: str, *, overwrite: bool = False) -> StoredObject:
        """Store a file as an object, whole or not at all, with its checksum. Raises OSError, too."""
        crc = Crc64Nvme()
        with source.open("rb") as file:
            while piece := file.read(PIECE):
                crc.update(piece)
            file.seek(0)
            answer = self._transport.json(
                "PUT",
                "files/content",
                params=_query(path=path, overwrite=overwrite or None),
                headers={_CRC_HEADER: crc.text(), "Content-Type": "application/octet-stream"},
                content=file,
                read_seconds=SLOW_READ_SECONDS,
            )
        return StoredObject.model_validate(answer)

    def write_checksum(self, path: str, *, etag: str | None = None) -> StoredObject:
        """Have an object's checksum computed and stored, if it is still the one with this ETag."""
        return self._work_on("checksum", _query(file=path, etag=etag))

    def verify(self, path: str, *, crc64nvme: str | None = None) -> StoredObject:
        """Have an object read whole and compared; ``checksum`` of the answer says how it went."""
        return self._work_on("verify", _query(file=path, crc64nvme=crc64nvme))

    def _work_on(self, action: str, body: Mapping[str, Any]) -> StoredObject:
        answer = self._transport.json(
            "POST", f"files/{action}", json=body, repeatable=True, read_seconds=SLOW_READ_SECONDS
        )
        return StoredObject.model_validate(answer)

    def _get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401 - whatever JSON the service answers
        return self._transport.json("GET", path, params=query)


def _in_path(text: str) -> str:
    return quote(text, safe="/:@")


def _query(**values: object) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _as_json(body: Mapping[str, Any] | BaseModel) -> Any:  # noqa: ANN401 - JSON
    if isinstance(body, BaseModel):
        return body.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    return dict(body)
