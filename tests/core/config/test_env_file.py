"""Files of environment variables: what is written is read alike by us, by a shell and by systemd's rules."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cts_core.config.env_file import read_env_file, to_env_file, use_env_file
from cts_core.errors import ConfigError

VALUES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r")
    | st.sampled_from("'\"\\$`!#&;|<>(){}[]*?~= \t\n%")
).filter(lambda text: not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text))
NAME = "CTS_S3__ACCESS_SECRET"


def read_as_systemd(text: str) -> dict[str, str]:  # noqa: C901, PLR0912 - the states are systemd's own
    """Read a file as systemd's env-file.c does, state by state."""
    variables: dict[str, str] = {}
    name, value, blanks, state = "", "", 0, "before name"
    for char in f"{text}\n":
        if state == "before name":
            if char in "#;":
                state = "comment"
            elif char not in " \t\n":
                name, state = char, "name"
        elif state == "name":
            if char == "=":
                value, blanks, state = "", 0, "before value"
            else:
                name += char
        elif state == "before value":
            if char == "\n":
                variables[name], state = value, "before name"
            elif char in "'\"":
                state = char
            elif char == "\\":
                state = "value escape"
            elif char not in " \t":
                value, state = value + char, "value"
        elif state == "value":
            if char == "\n":
                variables[name] = value[: len(value) - blanks]
                state = "before name"
            elif char == "\\":
                blanks, state = 0, "value escape"
            else:
                blanks = blanks + 1 if char in " \t" else 0
                value += char
        elif state == "value escape":
            value, state = value + ("" if char == "\n" else char), "value"
        elif state == "'":
            if char == "'":
                state = "before value"
            else:
                value += char
        elif state == '"':
            if char == '"':
                state = "before value"
            elif char == "\\":
                state = '"\\'
            else:
                value += char
        elif state == '"\\':
            value += char if char in '"\\`$' else "" if char == "\n" else f"\\{char}"
            state = '"'
        elif char == "\n":
            state = "before name"
    return variables


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("env")


@given(st.dictionaries(st.sampled_from(["CTS_A", "B2", NAME]), VALUES, max_size=3))
@example({NAME: 'it\'s $(touch x) `id` \\ "q" !x #c'})
@example({NAME: "\\\n'"})
def test_what_is_written_is_read_alike(folder: Path, variables: dict[str, str]):
    text = to_env_file(variables)
    assert read_as_systemd(text) == variables
    path = folder / "cts.env"
    path.write_text(text, encoding="utf-8", newline="")
    assert read_env_file(path) == variables


@settings(max_examples=25, deadline=None)
@given(VALUES)
@example("$(touch executed)`touch executed`; touch executed\n touch executed '\"\\")
def test_a_shell_reads_it_alike_and_executes_nothing(folder: Path, value: str):
    (folder / "variables").write_text(to_env_file({NAME: value}), encoding="utf-8", newline="")
    command = f'. ./variables; printf %s "${NAME}"'
    done = subprocess.run(
        ["sh", "-c", command], cwd=folder, env={"PATH": os.environ["PATH"]}, capture_output=True, check=True
    )  # fmt: skip
    assert (done.stdout.decode(), done.stderr) == (value, b"")
    assert not (folder / "executed").exists()


@given(VALUES | st.text("A='\"\\$`#; \n"))
def test_every_text_is_refused_or_read_as_systemd_reads_it(folder: Path, text: str):
    path = folder / "cts.env"
    path.write_text(text, encoding="utf-8", newline="")
    try:
        variables = read_env_file(path)
    except ConfigError:
        return
    assert read_as_systemd(text) == variables


def test_a_file_written_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "cts.env"
    path.write_text(
        '# a comment\n\nCTS_ONE=plain#1\n  CTS_TWO="a \\"b\\" \\$c"  \nCTS_THREE=\nCTS_FOUR=\'x y\''
    )
    assert read_env_file(path) == {
        "CTS_ONE": "plain#1",
        "CTS_TWO": 'a "b" $c',
        "CTS_THREE": "",
        "CTS_FOUR": "x y",
    }
    monkeypatch.setenv("CTS_ONE", "mine")
    monkeypatch.setattr(os, "environ", {"CTS_ONE": "mine"})
    use_env_file(path)
    assert (os.environ["CTS_ONE"], os.environ["CTS_FOUR"]) == ("mine", "x y")


@pytest.mark.parametrize(
    "line",
    [
        "CTS_A=a b",
        "CTS_A=$(id)",
        "CTS_A=`id`",
        'CTS_A="$HOME"',
        "CTS_A=a;id",
        "CTS_A=~/x",
        "CTS_A=a'b'",
        "CTS_A='open",
        "export CTS_A=a",
        "CTS_A = a",
        "secret",
    ],
)
def test_what_others_would_read_differently_is_refused(tmp_path: Path, line: str):
    path = tmp_path / "cts.env"
    path.write_text(f"CTS_B=1\n{line}\n")
    with pytest.raises(ConfigError, match="line 2 is not NAME=value") as refused:
        read_env_file(path)
    assert line not in str(refused.value)


def test_missing_file(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_env_file(tmp_path / "none")


@pytest.mark.parametrize("value", ["a\x1b", "a\r", "a\0", "\udcff"])
def test_value_that_no_file_can_hold(value: str):
    with pytest.raises(ValueError, match=f"{NAME} has control characters"):
        to_env_file({NAME: value})
