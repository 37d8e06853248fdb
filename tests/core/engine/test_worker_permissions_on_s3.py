"""Presigned requests cannot be turned into others by additional headers, on real S3 servers."""

from __future__ import annotations

import io
import tarfile
from contextlib import suppress

import pytest

from cts_core.engine.worker_permissions import with_protective_headers
from cts_core.model.worker import ObjectRequest
from cts_core.worker.http.client import ResponseError, SignedRequest
from cts_core.worker.s3.credentials import KeySigner, S3Keys
from tests.services.s3 import ACCESS_KEY, REGION, SECRET, S3Server

pytestmark = pytest.mark.slow
COPY = {"x-amz-copy-source": "/logs/private"}
UNPACK = {"x-amz-meta-snowball-auto-extract": "true"}


@pytest.fixture
def put(s3_server):
    """Return a function that sends a presigned PUT with additional headers."""
    keys = S3Keys(s3_server.url, REGION, ACCESS_KEY, SECRET)
    signer, http = KeySigner(keys), keys.http_client()

    def put(path: str, body: bytes, added: dict[str, str], **parameters: str) -> None:
        request = ObjectRequest(
            method="PUT",
            path=path,
            parameters=parameters,
            headers={"content-length": str(len(body))},
        )
        sign = signer.sign("PUT", path, parameters, with_protective_headers(request))
        http.request(
            "PUT", SignedRequest(sign.url, {**sign.headers, **added}), iter([memoryview(body)])
        )

    yield put
    http.close()


def keys_of(server: S3Server, bucket: str) -> list[str]:
    listing = server.client().list_objects_v2(Bucket=bucket)
    return [entry["Key"] for entry in listing.get("Contents", ())]


def test_put_cannot_become_a_copy(s3_server, put):
    s3_server.client().put_object(Bucket="logs", Key="private", Body=b"another's")
    upload = s3_server.client().create_multipart_upload(Bucket="data", Key="out/parts")
    with pytest.raises(ResponseError):
        put("data/out/x", b"", COPY)
    with pytest.raises(ResponseError):
        put("data/out/parts", b"", COPY, partNumber="1", uploadId=upload["UploadId"])
    assert keys_of(s3_server, "data") == []
    put("data/out/x", b"mine", {})
    assert s3_server.client().get_object(Bucket="data", Key="out/x")["Body"].read() == b"mine"
    put("data/out/parts", b"mine", {}, partNumber="1", uploadId=upload["UploadId"])


def test_put_cannot_be_unpacked(s3_server, put):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("elsewhere"))
    # In place of the signed header, and beside it.
    for added in (UNPACK, {name.title(): value for name, value in UNPACK.items()}):
        with suppress(ResponseError):
            put("data/out/x.tar", packed.getvalue(), added)
    put("data/out/x.tar", packed.getvalue(), {})
    assert keys_of(s3_server, "data") == ["out/x.tar"]
