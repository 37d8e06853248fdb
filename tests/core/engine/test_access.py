"""Authorization of paths: folders of users, and hidden logs."""

import pytest

from cts_core.engine.access import PathAccess
from cts_core.errors import IllegalPathError, PathInaccessibleError
from cts_core.identity.identity import User
from cts_core.object_paths import FolderPath

ANA = User("ana")
LOGS = FolderPath("cts-logs/container_logs")


def test_all_paths_but_the_logs_are_accessible_without_folders():
    access = PathAccess([], LOGS)
    access.check_input(ANA, "some-bucket/x")
    access.check_output(ANA, "some-bucket/out")
    access.check_listing(ANA, "cts-logs/")
    assert access.folders(ANA) == []
    with pytest.raises(PathInaccessibleError, match="is not a subpath"):
        access.check_input(ANA, f"{LOGS}1/container-0-stdout.txt")
    with pytest.raises(PathInaccessibleError):
        access.check_listing(ANA, LOGS)


@pytest.mark.parametrize("logs", ["cts-logs/container_logs", "cts-logs/a/b"])
def test_nothing_is_written_to_the_logs_nor_hides_them(logs):
    access = PathAccess([], FolderPath(logs))
    message = f"^Jobs may not write to the log path {logs}/$"
    for path in (f"{logs}/mine", logs, "cts-logs/a" if logs.endswith("b") else logs):
        with pytest.raises(PathInaccessibleError, match=message):
            access.check_output(ANA, path)
        with pytest.raises(PathInaccessibleError, match=message):
            access.check_output_folder(ANA, path)
    assert access.check_output(ANA, "cts-logs/other") == "cts-logs/other"
    assert access.check_output_folder(ANA, f"{logs}2") == f"{logs}2/"


def test_folders_are_of_the_user():
    access = PathAccess(["data/shared", "data/{user}/"], LOGS)
    assert access.folders(ANA) == ["data/ana/", "data/shared/"]
    access.check_input(ANA, "data/ana/x.fa")
    access.check_output(ANA, "data/shared/out")
    access.check_listing(ANA, "data/ana/sub/pre")
    assert access.check_output_folder(ANA, "data/shared") == "data/shared/"
    for path in ("data/bob/x.fa", "data/anab/x", "data/ana2/x", "other/x"):
        with pytest.raises(PathInaccessibleError, match="input path"):
            access.check_input(ANA, path)
        with pytest.raises(PathInaccessibleError, match="output path"):
            access.check_output(ANA, path)
        with pytest.raises(PathInaccessibleError, match="output path"):
            access.check_output_folder(ANA, path)


@pytest.mark.parametrize("path", ["data/shared", "data/ana"])
def test_a_folders_own_key_is_not_in_it(path):
    access = PathAccess(["data/shared", "data/{user}/"], LOGS)
    with pytest.raises(PathInaccessibleError, match="input path"):
        access.check_input(ANA, path)
    with pytest.raises(PathInaccessibleError, match="output path"):
        access.check_output(ANA, path)
    with pytest.raises(PathInaccessibleError):
        access.check_listing(ANA, path)


@pytest.mark.parametrize(
    "path", ["data/ana/../bob/x", "data/ana/./x", "data/./ana/x", "data/ana//x", "data/ana/.."]
)
def test_no_path_leads_out_of_a_folder(path):
    access = PathAccess(["data/{user}/"], LOGS)
    for check in (
        access.check_input,
        access.check_output,
        access.check_output_folder,
        access.check_listing,
    ):
        with pytest.raises(IllegalPathError):
            check(ANA, path)
    allowed, refused = access.check_inputs(ANA, ["data/ana/x", path])
    assert allowed == "data/ana/x"
    assert isinstance(refused, IllegalPathError)
    assert "at index 1" in str(refused)


@pytest.mark.parametrize("name", ["..", ".", "it's", "a/../b"])
def test_no_users_name_leads_out_of_a_folder(name):
    access = PathAccess(["data/{user}"], LOGS)
    with pytest.raises(IllegalPathError):
        access.check_input(User(name), "data/bob/x")


@pytest.mark.parametrize("prefix", ["data/", "data/an", "data/ana", "other/", "data/bob/"])
def test_listing_outside_the_folders_is_forbidden(prefix):
    access = PathAccess(["data/{user}"], LOGS)
    with pytest.raises(PathInaccessibleError):
        access.check_listing(ANA, prefix)


def test_logs_are_hidden_by_whole_segments():
    access = PathAccess([], LOGS)
    assert access.is_hidden(LOGS.file("a"))
    assert access.is_hidden(LOGS)
    assert not access.is_hidden("cts-logs/container_logs2/a")
