"""The detection of orphans among a runtime's containers, and the report of their removal."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from cts_core.worker.runtimes.liveness import SOCKET_LABEL, LivenessSocket
from cts_core.worker.runtimes.orphans import remove_orphans

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="elsewhere nobody can tell who lives"
)
_ENGINE = """#!/bin/sh
cd "$(dirname "$0")"
case $1 in
ps) cat listed ;;
inspect) shift 3; for id; do grep "^$id " inspected; done ;;
rm)
    shift 3
    for id; do
        if [ -e "stuck-$id" ]; then echo "cannot remove container \\"$id\\": device is busy" >&2; else echo "$id"; fi
    done
    ! ls stuck-* >/dev/null 2>&1 ;;
esac
"""


@pytest.fixture
def token() -> Iterator[str]:
    """Yield the token name of a live worker."""
    socket_ = LivenessSocket()
    yield socket_.labels[SOCKET_LABEL]
    socket_.close()


@pytest.fixture
def runtime(tmp_path: Path) -> Callable[[Mapping[str, str]], list[str]]:
    """Return a function that makes a simulated runtime with containers, given as ids and token names."""

    def make(containers: Mapping[str, str]) -> list[str]:
        (tmp_path / "listed").write_text("".join(f"{id_}\n" for id_ in containers))
        lines = (f"{id_} {token}\n" for id_, token in containers.items())
        (tmp_path / "inspected").write_text("".join(lines))
        program = tmp_path / "runtime"
        program.write_text(_ENGINE)
        program.chmod(0o755)
        return [str(program)]

    return make


def test_containers_of_ended_workers_are_removed(runtime, token: str) -> None:
    gone = uuid.uuid4().hex
    command = runtime({"a1": gone, "b2": token, "c3": "", "d4": "no name", "e5": "x" * 200})
    assert remove_orphans(command) == ["a1"]


def test_containers_not_removed_are_not_returned(runtime, tmp_path, capfd) -> None:
    command = runtime({id_: uuid.uuid4().hex for id_ in ("a1", "b2", "c3")})
    (tmp_path / "stuck-b2").touch()
    assert remove_orphans(command) == ["a1", "c3"]
    assert 'cannot remove container "b2": device is busy' in capfd.readouterr().err


@pytest.mark.slow
def test_many_live_containers_hide_no_orphan(runtime, token: str) -> None:
    # Docker lists the newest first, and podman the oldest.
    for ids in (range(300, 0, -1), range(300)):
        ids_ = [f"{number:04}" for number in ids]
        left = ids_[-1]
        command = runtime(dict.fromkeys(ids_, token) | {left: uuid.uuid4().hex})
        assert remove_orphans(command) == [left]
