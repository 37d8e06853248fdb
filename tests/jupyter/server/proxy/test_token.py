"""The newest token that the upstream has not refused is sent."""

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


def test_token_of_the_environment_without_a_file(file: Path) -> None:
    assert chosen(UserToken(file, ENVIRON)) == "from-environment"


def test_environment_takes_precedence_over_an_older_file(file: Path) -> None:
    write(file, "from-file\n", age=60)
    token = UserToken(file, ENVIRON)
    assert chosen(token) == "from-environment"
    write(file, "renewed\n", age=-1)
    assert chosen(token) == "renewed"
    file.unlink()
    assert chosen(token) == "from-environment"


def test_refused_token_is_replaced_by_another(file: Path) -> None:
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
def test_invalid_tokens_are_ignored(file: Path, content: str) -> None:
    file.write_bytes(content.encode())
    with pytest.raises(AuthenticationError) as error:
        chosen(UserToken(file, {"KBASE_AUTH_TOKEN": content}))
    assert str(file) in str(error.value)
    assert "KBASE_AUTH_TOKEN" in str(error.value)
    assert len(content) < 3 or content not in str(error.value)


def test_folder_in_place_of_the_token_file(tmp_path: Path) -> None:
    assert chosen(UserToken(tmp_path, ENVIRON)) == "from-environment"


def test_no_repr_or_message_shows_a_token(file: Path) -> None:
    token = UserToken(file, ENVIRON)
    assert "from-environment" not in repr(token) + str(token) + str(
        token.refuse("from-environment")
    )
