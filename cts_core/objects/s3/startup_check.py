"""Checks at start that the configured store can be used. Errors name the setting that is wrong."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, SSLError

from cts_core.config.sections import S3Settings
from cts_core.errors import ConfigError
from cts_core.objects.s3.client import make_client
from cts_core.objects.s3.errors import CREDENTIALS, REGION, code_of
from cts_core.worker.clock import describe_offset
from cts_core.worker.s3.errors import CLOCK


def check_access(settings: S3Settings) -> Any:  # noqa: ANN401 - botocore has no types
    """Return a client for the external URL. Raises ConfigError unless the keys may list buckets. Blocks."""
    client = make_client(settings, settings.url, insecure=settings.allow_insecure)
    _list_buckets(client, settings, "url", "allow_insecure")
    if not settings.external_url:
        return client
    client.close()
    external = make_client(
        settings, settings.external_url, insecure=settings.allow_insecure_external
    )
    if settings.verify_external_url:
        _list_buckets(external, settings, "external_url", "allow_insecure_external")
    return external


def _list_buckets(client: Any, settings: S3Settings, url: str, insecure: str) -> None:  # noqa: ANN401
    address = getattr(settings, url)
    try:
        client.list_buckets()
    except SSLError as e:
        raise ConfigError(
            f"s3.{url}: the certificate of {address} is not accepted; SSL_CERT_FILE may name a file of those to "
            f"trust, and s3.{insecure} accepts any"
        ) from e
    except ClientError as e:
        date = e.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
        raise ConfigError(_describe(code_of(e), f"s3.{url}: {address}", settings, date)) from e
    except (BotoCoreError, ValueError) as e:
        raise ConfigError(
            f"s3.{url}: no S3 server answers at {address} ({type(e).__name__})"
        ) from e


def _describe(code: str, where: str, settings: S3Settings, date: str) -> str:
    if code == "SignatureDoesNotMatch":
        return f"s3.access_secret: {where} does not accept it for the key {settings.access_key}"
    if code in CREDENTIALS:
        return f"s3.access_key: {where} does not know {settings.access_key} ({code})"
    if code in REGION:
        return f"s3.region: {where} is not in {settings.region}"
    if code in CLOCK:
        return f"{where}: this machine's clock is {describe_offset(date)} its own: set them right"
    if code == "AccessDenied":
        return f"s3.access_key: {settings.access_key} may not list buckets at {where}"
    return f"{where} answers {code} when asked for its buckets"
