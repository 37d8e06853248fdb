"""The settings of staging reference data for the site ``kbase``: of CTS, and of the service that does it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from cts_core.sections import AbsolutePath, Section, Url


def _token(token: SecretStr) -> SecretStr:
    text = token.get_secret_value()
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise ValueError("it has characters that no token has")
    return token


Token = Annotated[SecretStr, AfterValidator(_token)]
"""A bearer token; empty when it is not set."""


class RefdataSettings(Section):
    """How CTS and the staging service find each other, and what the latter does (preset ``refdata``)."""

    server_url: Url = Field(
        "", description="for CTS: URL of the staging service of the site kbase; none: there is none"
    )
    server_token: Token = Field(
        SecretStr(""), description="for CTS: token of the role kbase.cts_role, for that service"
    )
    cts_url: Url = Field("", description="for the staging service: URL of the CTS that it serves")
    cts_token: Token = Field(
        SecretStr(""),
        description="for the staging service: token of the role kbase.refdata_role, for CTS",
    )
    local_path: AbsolutePath = Field(
        "", description="folder that gets the data, a folder in it for each; nodes mount it"
    )
    metadata_path: AbsolutePath = Field(
        "", description="folder that gets the MD5 sums of the data's files"
    )
    max_bytes: int = Field(
        1 << 40, ge=1, description="bytes that one reference data may have, unpacked or not"
    )
    max_entries: int = Field(
        1_000_000, ge=1, description="files and folders that one reference data may unpack to"
    )
    min_free: int = Field(1 << 30, ge=0, description="bytes of the disk that staging leaves free")
    timeout_s: float = Field(
        30.0, gt=0, le=600, description="seconds until a question of one to the other is given up"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if bool(self.server_url) != bool(self.server_token.get_secret_value()):
            raise ValueError("server_url and server_token go together: set both, or neither")
        local, metadata = Path(self.local_path), Path(self.metadata_path)
        is_set = self.local_path and self.metadata_path
        if is_set and (local.is_relative_to(metadata) or metadata.is_relative_to(local)):
            raise ValueError("local_path and metadata_path lie one within the other; move one")
        return self
