"""Properties of plans; exact plans are compared in ``test_plan_vectors.py``."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cts_core.errors import IllegalParameterError, IllegalPathError
from cts_core.model.job import JobInput, S3FileWithDataID
from cts_core.model.parameters import Parameters
from cts_core.plan import overwriting_warning, place_file, plan_container, plan_job, split_evenly
from tests.harness.factories import make_image

SEGMENTS = st.sampled_from(["a", "b", "ab", "f 0", "ä", "manifest-1", "x.fa"])
KEYS = st.lists(SEGMENTS, min_size=1, max_size=4).map("/".join)
PATHS = st.builds("{}/{}".format, st.sampled_from(["data", "other"]), KEYS)
ROOTS = st.lists(st.just("") | st.sampled_from(["data", "other"]) | PATHS, max_size=3)


def _job(files: list[str], containers: int = 1, params: dict | None = None, **more) -> JobInput:
    return JobInput.model_validate(
        {
            "cluster": "local",
            "image": "host/tool",
            "params": params or {},
            "num_containers": containers,
            "output_dir": "data/out",
            "input_files": files,
            **more,
        }
    )


def _all_files(params_of_files: dict) -> dict:
    return {"args": [{"type": "input_files", **params_of_files}]}


@given(st.lists(st.integers(), max_size=100), st.integers(1, 30))
def test_a_split_is_even_and_in_order(items, count):
    parts = list(split_evenly(items, count))
    assert len(parts) == count
    assert [item for part in parts for item in part] == items
    sizes = [len(part) for part in parts]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] - sizes[-1] <= 1


@given(PATHS, ROOTS)
def test_placed_path_is_the_end_of_the_path(path, roots):
    place = place_file(path, roots)
    assert place
    assert path == place or path.endswith(f"/{place}")
    above = [root for root in roots if root == "" or path.startswith(f"{root}/")]
    if not above:
        assert "/" not in place
    for root in above:
        # No root above it keeps less.
        assert len(place) <= len(path.removeprefix(root).removeprefix("/"))


@given(PATHS)
def test_a_root_is_a_prefix_by_whole_segments(path):
    assert place_file(path, [path[:-1]]) == path.rpartition("/")[2]
    assert place_file(path, [path]) == path.rpartition("/")[2]
    assert place_file(path, [""]) == path


@given(st.lists(PATHS, min_size=1, max_size=12), st.integers(1, 5), ROOTS)
def test_every_file_has_a_path_of_its_own_or_the_plan_is_refused(files, containers, roots):
    assume(containers <= len(files))
    job = _job(
        files,
        containers,
        _all_files({"input_files_format": "space_separated_list"}),
        input_roots=roots,
    )
    places = Counter(place_file(path, job.input_roots or []) for path in files)
    crowded = places.most_common(1)[0][1] > 1
    nested = any(other.startswith(f"{place}/") for place in places for other in places)
    try:
        plans = plan_job(job, make_image())
    except IllegalParameterError:
        assert crowded or nested
        return
    assert not crowded
    assert [plan.number for plan in plans] == list(range(containers))
    assert [placed.file.file for plan in plans for placed in plan.files] == files
    for plan in plans:
        assert plan_container(job, make_image(), plan.number) == plan
        assert plan.argv == [
            "/opt/tool",
            *(f"/input_files/{placed.place}" for placed in plan.files),
        ]
        folders = {p.place.rpartition("/")[0] for p in plan.files}
        assert not folders & {p.place for p in plan.files}


def test_collisions_name_both_files_and_their_indexes():
    with pytest.raises(IllegalParameterError) as error:
        plan_job(_job(["data/a/x", "data/b/y", "data/b/x"], 3), make_image())
    assert str(error.value) == (
        "Input files 'data/b/x' at index 2 and 'data/a/x' at index 0 collide at path '/input_files/x'"
    )


def test_file_in_place_of_a_folder_is_refused():
    job = _job(["data/a/x", "data/r/a"], input_roots=["data", "data/r"])
    with pytest.raises(
        IllegalParameterError, match=r"'/input_files/a' would be both a folder and a file"
    ):
        plan_job(job, make_image())
    # In containers of their own they do not meet.
    assert len(plan_job(job.model_copy(update={"num_containers": 2}), make_image())) == 2


@pytest.mark.parametrize("where", ["args", "environment"])
def test_comma_in_a_path_is_refused_where_commas_separate_paths(where):
    comma = {"type": "input_files", "input_files_format": "comma_separated_list"}
    params = {"args": [comma]} if where == "args" else {"environment": {"FILES": comma}}
    files = ["data/a", "data/x,y/b", "data/c,d"]
    with pytest.raises(IllegalParameterError, match=r"'data/c,d' at index 2 .* '/input_files/c,d'"):
        plan_job(_job(files, 3, params), make_image())
    with pytest.raises(IllegalParameterError, match=r"'data/x,y/b' at index 1"):
        plan_job(_job(files, 3, params, input_roots=["data"]), make_image())
    # What counts is the path in the container.
    assert len(plan_job(_job(files[:2], 2, params), make_image())) == 2
    # A job that was stored before this check runs as it was accepted.
    assert plan_container(_job(files, 3, params), make_image(), 2).files[0].place == "c,d"
    for format_ in ("space_separated_list", "repeat_parameter"):
        other = {"args": [comma | {"input_files_format": format_, "flag": "-i"}]}
        assert len(plan_job(_job(files, 3, other), make_image())) == 3


def test_file_named_like_the_manifest_is_refused():
    params = {"args": [{"type": "manifest_file", "manifest_file_format": "files"}]}
    with pytest.raises(IllegalParameterError, match=r"container 0 collides with its manifest"):
        plan_job(_job(["data/manifest-1"], params=params), make_image())
    # The second container's manifest has another name.
    plans = plan_job(_job(["data/x", "data/manifest-1"], 2, params), make_image())
    assert [plan.argv for plan in plans] == [
        ["/opt/tool", "/input_files/manifest-1"],
        ["/opt/tool", "/input_files/manifest-2"],
    ]


@pytest.mark.parametrize(
    ("containers", "params", "warns"),
    [
        (1, {"args": ["x.tsv"]}, False),
        (2, {}, True),
        (3, {"args": ["x.tsv", {"type": "manifest_file", "manifest_file_format": "files"}]}, True),
        (3, {"args": ["x.tsv"], "declobber": True}, False),
        (3, {"args": [{"type": "container_number", "container_num_suffix": ".tsv"}]}, False),
        (3, {"environment": {"OUT": {"type": "container_number"}}}, False),
    ],
)
def test_containers_whose_outputs_nothing_keeps_apart_have_a_warning(containers, params, warns):
    warning = overwriting_warning(containers, Parameters.model_validate(params))
    assert (warning is not None) == warns
    if warning is not None:
        assert "<n> in %cts" in warning
        assert "set declobber" in warning


@pytest.mark.parametrize(
    "changes",
    [
        {"input_files": [S3FileWithDataID.model_construct(file="data/ana/../bob/secret")]},
        {"input_files": [S3FileWithDataID.model_construct(file="data/ana/")]},
        {"output_dir": "data/ana/../bob/"},
    ],
)
def test_a_job_that_was_stored_with_paths_that_lead_elsewhere_has_no_plan(changes):
    stored = _job(["data/a"], 1).model_copy(update=changes)
    with pytest.raises(IllegalPathError):
        plan_job(stored, make_image())
    with pytest.raises(IllegalPathError):
        plan_container(stored, make_image(), 0)


@pytest.mark.parametrize("declobber", [False, True])
@pytest.mark.parametrize("folder", ["data/out", "data/out/"])
def test_declobber_gives_each_container_a_folder(declobber, folder):
    plans = plan_job(
        _job(["data/a", "data/b"], 2, {"declobber": declobber}, output_dir=folder), make_image()
    )
    expected = ["data/out/0/", "data/out/1/"] if declobber else ["data/out/", "data/out/"]
    assert [plan.output_dir for plan in plans] == expected


@pytest.mark.parametrize(
    ("files_format", "flag", "expected"),
    [
        ("comma_separated_list", None, ["/in/a,/in/b"]),
        ("comma_separated_list", "-i", ["-i", "/in/a,/in/b"]),
        ("comma_separated_list", "--in=", ["--in=/in/a,/in/b"]),
        ("space_separated_list", None, ["/in/a", "/in/b"]),
        ("space_separated_list", "-i", ["-i", "/in/a", "/in/b"]),
        ("space_separated_list", "--in=", ["--in=/in/a", "/in/b"]),
        ("repeat_parameter", "-i", ["-i", "/in/a", "-i", "/in/b"]),
        ("repeat_parameter", "--in=", ["--in=/in/a", "--in=/in/b"]),
    ],
)
@pytest.mark.parametrize("mount", ["/in", "/in/"])
def test_formats_of_input_files(files_format, flag, expected, mount):
    params = _all_files({"input_files_format": files_format, "flag": flag})
    job = _job(["data/a", "data/b"], params={**params, "input_mount_point": mount})
    assert plan_job(job, make_image(entrypoint=["tool", "sub"]))[0].argv == [
        "tool",
        "sub",
        *expected,
    ]


@pytest.mark.parametrize("where", ["args", "environment"])
def test_words_beyond_the_limit_of_linux_are_refused(where):
    comma = {"type": "input_files", "input_files_format": "comma_separated_list"}
    params = {"args": {"args": [comma]}, "environment": {"environment": {"F": comma}}}[where]
    # The mount point and a comma are its own bytes, as is each of an umlaut.
    files = [f"data/{number:04}-{'ä' * 40}" for number in range(1400)]
    with pytest.raises(IllegalParameterError, match=r"Container 0 .* manifest"):
        plan_job(_job(files, 1, params), make_image())
    (plan, _) = plan_job(_job(files, 2, params), make_image())
    assert max(len(word.encode()) for word in [*plan.argv, *plan.environment.values()]) > 60_000
