"""Leave to use an S3 server, by keys: what a worker beside its server has, and one far away has not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Dict, Mapping
from urllib.parse import urlsplit

from cts_core.worker.http.client import Http, SignedRequest
from cts_core.worker.http.connection import CancellationToken
from cts_core.worker.s3.sigv4 import Signer, query_string, quote_path


@dataclass(frozen=True)
class S3Keys:
    """Where the server is, how it is reached, and with which keys. Never written to a disk."""

    url: str
    region: str
    access_key: str
    secret: str = field(repr=False)
    timeout: float = 30.0
    """Seconds that the server may stay silent."""
    ca_file: str | None = None
    """The certificates to trust; None: those of the system."""
    insecure: bool = False
    """Whether any certificate will do."""

    def http(self, haste: CancellationToken | None = None) -> Http:
        """A way to the server."""
        return Http(timeout=self.timeout, ca_file=self.ca_file, insecure=self.insecure, haste=haste)


class KeySigner:
    """Allows every request, by signing it."""

    def __init__(self, keys: S3Keys) -> None:
        url = urlsplit(keys.url)
        usual = ":443" if url.scheme == "https" else ":80"
        # Signed as the server sees it: without a port that goes without saying.
        self._host = url.netloc.removesuffix(usual)
        self._origin = f"{url.scheme}://{url.netloc}"
        self._base = url.path.rstrip("/")
        self._signer = Signer(keys.access_key, keys.secret, keys.region)

    def sign(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str],
        headers: Dict[str, str],
        check: Callable[[], None] | None = None,  # noqa: ARG002 - nothing is waited for
    ) -> SignedRequest:
        """Leave for one request about the object at ``path``, now."""
        place, asked = f"{self._base}/{quote_path(path)}", query_string(parameters)
        signed = self._signer.sign(method, self._host, place, asked, headers)
        return SignedRequest(f"{self._origin}{place}{asked and '?'}{asked}", signed)
