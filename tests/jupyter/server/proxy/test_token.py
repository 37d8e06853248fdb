"""Which token is sent: the newest that the service has not refused."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from cts_core.errors import AuthenticationError
from cts_jupyter.server.proxy.token import UserToken

ENVIRON = {"KBASE_AUTH_TOKEN": "from-environment"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "session"


def write(file: Path, text: str, *, age: float = 0) -> None:
    file.write_text(text)
    os.utime(file, times=(time.time() - age, time.time() - age))


def chosen(token: UserToken) -> str:
    return token.choose(token.candidates())


def test_the_environments_without_a_file(file: Path) -> None:
    assert chosen(UserToken(file, ENVIRON)) == "from-environment"


def test_a_file_from_before_the_server_is_older_than_its_environment(file: Path) -> None:
    write(file, "from-file\n", age=60)
    token = UserToken(file, ENVIRON)
    assert chosen(token) == "from-environment"
    write(file, "renewed\n", age=-1)
    assert chosen(token) == "renewed"
    file.unlink()
    assert chosen(token) == "from-environment"


def test_a_refused_token_yields_to_another(file: Path) -> None:
    write(file, "from-file", age=60)
    token = UserToken(file, ENVIRON)
    token.refuse("from-environment")
    assert chosen(token) == "from-file"
    token.refuse("from-file")
    # Nothing is left to lose: the service is asked once more.
    assert chosen(token) == "from-environment"
    write(file, "renewed", age=60)
    assert chosen(token) == "renewed"


@pytest.mark.parametrize("content", ["", "\n", "two words", "t\u00f6ken", "x" * 5000, "\x00"])
def test_what_is_no_token_is_none(file: Path, content: str) -> None:
    file.write_bytes(content.encode())
    with pytest.raises(AuthenticationError) as error:
        chosen(UserToken(file, {"KBASE_AUTH_TOKEN": content}))
    assert str(file) in str(error.value)
    assert "KBASE_AUTH_TOKEN" in str(error.value)
    assert len(content) < 3 or content not in str(error.value)


def test_a_folder_in_the_files_place(tmp_path: Path) -> None:
    assert chosen(UserToken(tmp_path, ENVIRON)) == "from-environment"


def test_nothing_shows_a_token(file: Path) -> None:
    token = UserToken(file, ENVIRON)
    assert "from-environment" not in repr(token) + str(token) + str(
        token.refuse("from-environment")
    )
