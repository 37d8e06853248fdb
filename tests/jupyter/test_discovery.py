"""How a kernel finds its CTS: by the environment, or by the file that a server of its own place has left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from cts_jupyter import discovery
from cts_jupyter.discovery import NoConnectionError, ServerFile, find_connection, write_server_file


@pytest.fixture
def folder(isolated: Path) -> Path:
    return isolated / "jupyter-runtime_dir"


def leave(folder: Path, pid: int, url: str = "http://127.0.0.1:1/cts") -> Path:
    return write_server_file(folder, ServerFile(url=url, token=f"token-{pid}", pid=pid))


def ended_process() -> int:
    """Return the id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_environment_takes_precedence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(folder, os.getpid())
    monkeypatch.setenv("CDM_TASK_SERVICE_URL", "https://elsewhere/cts")
    connection = find_connection()
    assert (connection.url, connection.token()) == ("https://elsewhere/cts", None)
    monkeypatch.setenv("KBASE_AUTH_TOKEN", "first")
    assert connection.token() == "first"
    monkeypatch.setenv("KBASE_AUTH_TOKEN", "renewed")
    assert connection.token() == "renewed"


def test_parent_server_is_preferred(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        leave(folder, os.getpid(), "http://parent/cts")
        leave(folder, other.pid, "http://other/cts")
        with pytest.raises(NoConnectionError, match="2 servers"):
            find_connection()
        monkeypatch.setenv("JPY_PARENT_PID", str(os.getpid()))
        assert find_connection().url == "http://parent/cts"
        other.kill()


_FIND = "from cts_jupyter.discovery import find_connection; print(find_connection().url)"


@pytest.mark.slow
def test_ancestor_is_preferred_to_other_servers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As of a kernel of nbconvert, which a terminal of this server runs.
    leave(folder, os.getpid(), "http://ancestor/cts")
    with subprocess.Popen(["sleep", "60"]) as other:
        leave(folder, other.pid, "http://other/cts")
        with monkeypatch.context() as environment:
            environment.setenv("JPY_PARENT_PID", "1")
            environment.setenv("JUPYTER_RUNTIME_DIR", str(folder))
            # A shell of its own stands between the two.
            words = ["/bin/sh", "-c", '"$0" -c "$1"; exit $?', sys.executable, _FIND]
            found = subprocess.run(words, capture_output=True, text=True, check=False)
        other.kill()
    assert found.stdout.strip() == "http://ancestor/cts", found.stderr


def test_ancestors_are_those_of_the_system() -> None:
    chain = list(discovery._ancestors(os.getpid()))
    assert chain[0] == os.getppid()
    assert len(set(chain)) == len(chain)


def test_files_of_dead_servers_are_ignored(folder: Path) -> None:
    stale = leave(folder, ended_process())
    stale.with_name(f"{stale.name.rpartition('-')[0]}-junk.json").write_text("{")
    with pytest.raises(NoConnectionError):
        find_connection()
    leave(folder, os.getpid())
    assert not stale.exists()
    assert find_connection().token() == f"token-{os.getpid()}"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells when a process started")
def test_file_of_a_dead_server_whose_process_id_another_process_has_is_ignored(
    folder: Path,
) -> None:
    path = leave(folder, os.getpid())
    file = ServerFile.model_validate_json(path.read_bytes())
    path.write_text(file.model_copy(update={"started": "1"}).model_dump_json())
    with pytest.raises(NoConnectionError):
        find_connection()
    leave(folder, os.getppid())
    assert not path.exists()


def test_token_of_a_restarted_server_is_read_anew(folder: Path) -> None:
    leave(folder, os.getpid())
    connection = find_connection()
    write_server_file(folder, ServerFile(url=connection.url, token="new", pid=os.getpid()))
    assert connection.token() == "new"


def test_server_file_follows_no_symbolic_link(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A symbolic link in place of the temporary file is never followed."""
    name = leave(folder, os.getpid()).name
    monkeypatch.setattr(discovery.secrets, "token_hex", lambda _: "00")
    target = tmp_path / "precious"
    target.write_text("precious")
    (folder / f".{name}.00").symlink_to(target)
    with pytest.raises(FileExistsError):
        leave(folder, os.getpid())
    assert target.read_text() == "precious"


# One folder for several machines and containers.


@pytest.mark.parametrize(
    ("function", "value"),
    [("boot_id", "2c1b47ab-0000-4000-8000-000000000000"), ("_pid_namespace", 4026530000)],
)
def test_files_of_servers_of_other_places_are_neither_used_nor_touched(
    folder: Path, monkeypatch: pytest.MonkeyPatch, function: str, value: object
) -> None:
    with monkeypatch.context() as there:
        there.setattr(discovery, function, lambda: value)
        pids = (os.getpid(), ended_process())
        left = [leave(folder, pid, "http://elsewhere/cts") for pid in pids]
    content = [path.read_bytes() for path in left]
    monkeypatch.setenv("JPY_PARENT_PID", str(os.getpid()))
    with pytest.raises(NoConnectionError, match="No CTS is running here"):
        find_connection()
    leave(folder, os.getpid(), "http://here/cts")
    connection = find_connection()
    write_server_file(folder, ServerFile(url=connection.url, token="new", pid=os.getpid()))
    assert (connection.url, connection.token()) == ("http://here/cts", "new")
    assert [path.read_bytes() for path in left] == content


def test_host_that_changes_its_name_keeps_its_servers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(folder, os.getpid(), "http://here/cts")
    monkeypatch.setattr(discovery.socket, "gethostname", lambda: "dhcp-7.example.org")
    assert find_connection().url == "http://here/cts"


def test_earlier_kernels_find_the_file(folder: Path) -> None:
    """Kernels of an earlier version, which look for this pattern and these fields, find the server."""

    class EarlierServerFile(BaseModel):
        url: str
        token: str
        pid: int
        certificate: Path | None = None
        service: str | None = None

    leave(folder, os.getpid())
    (path,) = folder.glob("cts-server-*.json")
    assert EarlierServerFile.model_validate_json(path.read_bytes()).pid == os.getpid()
