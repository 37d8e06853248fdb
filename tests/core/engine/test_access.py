"""Authorization of paths: folders of users, and hidden logs."""

import pytest

from cts_core.engine.access import PathAccess
from cts_core.errors import PathInaccessibleError
from cts_core.identity.identity import User

ANA = User("ana")
LOGS = "cts-logs/container_logs"


def test_all_paths_but_the_logs_are_accessible_without_folders():
    access = PathAccess([], LOGS)
    access.check_input(ANA, "some-bucket/x")
    access.check_output(ANA, "some-bucket/out")
    access.check_listing(ANA, "cts-logs/")
    assert access.folders(ANA) == []
    with pytest.raises(PathInaccessibleError, match="is not a subpath"):
        access.check_input(ANA, f"{LOGS}/1/container-0-stdout.txt")
    with pytest.raises(PathInaccessibleError, match=f"Jobs may not write to the log path {LOGS}/"):
        access.check_output(ANA, f"{LOGS}/mine")
    with pytest.raises(PathInaccessibleError):
        access.check_listing(ANA, f"{LOGS}/")


def test_folders_are_of_the_user():
    access = PathAccess(["data/shared", "data/{user}/"], LOGS)
    assert access.folders(ANA) == ["data/ana/", "data/shared/"]
    access.check_input(ANA, "data/ana/x.fa")
    access.check_output(ANA, "data/shared/out")
    access.check_listing(ANA, "data/ana/sub/pre")
    for path in ("data/bob/x.fa", "data/anab/x", "data/ana2/x", "data", "other/x"):
        with pytest.raises(PathInaccessibleError, match="input path"):
            access.check_input(ANA, path)
        with pytest.raises(PathInaccessibleError, match="output path"):
            access.check_output(ANA, path)


@pytest.mark.parametrize("prefix", ["data/", "data/an", "data/ana", "other/", "data/bob/"])
def test_listing_outside_the_folders_is_forbidden(prefix):
    access = PathAccess(["data/{user}"], LOGS)
    with pytest.raises(PathInaccessibleError):
        access.check_listing(ANA, prefix)


def test_logs_are_hidden_by_whole_segments():
    access = PathAccess([], LOGS)
    assert access.is_hidden(f"{LOGS}/a")
    assert access.is_hidden(f"{LOGS}/")
    assert not access.is_hidden(f"{LOGS}2/a")
