"""Access keys to an S3 server, which a worker beside its server has and a remote one usually has not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Dict, Mapping
from urllib.parse import urlsplit

from cts_core.worker.http.client import HttpClient, SignedRequest
from cts_core.worker.http.connection import CancellationToken
from cts_core.worker.s3.sigv4 import Signer, query_string, quote_path


@dataclass(frozen=True)
class S3Keys:
    """An S3 server's address, connection settings and access keys. Never written to a disk."""

    url: str
    region: str
    access_key: str
    secret: str = field(repr=False)
    timeout: float = 30.0
    """Seconds that the server may stay silent."""
    ca_file: str | None = None
    """The certificates to trust; None: those of the system."""
    insecure: bool = False
    """Whether to accept any certificate."""

    def http_client(self, cancellation: CancellationToken | None = None) -> HttpClient:
        """Return a client for the server."""
        return HttpClient(
            timeout=self.timeout,
            ca_file=self.ca_file,
            insecure=self.insecure,
            cancellation=cancellation,
        )


class KeySigner:
    """Signs every request with the keys."""

    def __init__(self, keys: S3Keys) -> None:
        url = urlsplit(keys.url)
        default_port = ":443" if url.scheme == "https" else ":80"
        # The signature covers the Host header, which omits the scheme's default port.
        self._host = url.netloc.removesuffix(default_port)
        self._origin = f"{url.scheme}://{url.netloc}"
        self._base = url.path.rstrip("/")
        self._signer = Signer(keys.access_key, keys.secret, keys.region)

    def sign(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str],
        headers: Dict[str, str],
        check: Callable[[], None] | None = None,  # noqa: ARG002 - signing does not block
    ) -> SignedRequest:
        """Return a signed request about the object at ``path``, valid from now on."""
        target, parameter_text = f"{self._base}/{quote_path(path)}", query_string(parameters)
        signed = self._signer.sign(method, self._host, target, parameter_text, headers)
        return SignedRequest(
            f"{self._origin}{target}{parameter_text and '?'}{parameter_text}", signed
        )
