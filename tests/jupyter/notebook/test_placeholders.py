"""The words after ``--`` and the contract's arguments, in both directions."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from cts_core.model.job import JobInput
from cts_core.model.parameters import Parameters
from cts_core.placeholders import format_arguments
from cts_core.plan import plan_job
from cts_jupyter.notebook.placeholders import (
    ArgumentsError,
    parse_arguments,
    parse_value,
)
from tests.harness.arguments import (
    COMMA,
    DATA_IDS,
    MANIFEST,
    NUMBER,
    REPEAT,
    SPACE,
    argument_lists,
)
from tests.harness.factories import make_image
from tests.harness.paths import VECTORS

VECTORS = json.loads((VECTORS / "plan.json").read_text())


@pytest.mark.parametrize(
    ("words", "args"),
    [
        (["--threads", "8", "-x", "fna.gz"], ["--threads", "8", "-x", "fna.gz"]),
        (["--input", "<files>"], ["--input", SPACE]),
        (["--input=<files>"], [SPACE | {"flag": "--input="}]),
        (["-i=<files:comma>"], [COMMA | {"flag": "-i="}]),
        (["<files:comma>"], [COMMA]),
        (["-v", "-i", "<files:repeat>"], ["-v", REPEAT | {"flag": "-i"}]),
        (["--in=<files:repeat>"], [REPEAT | {"flag": "--in="}]),
        (["--list", "<manifest>"], ["--list", MANIFEST]),
        (["<manifest:data_ids>"], [DATA_IDS]),
        (["<manifest:data_ids:my id>"], [DATA_IDS | {"manifest_file_header": "my id"}]),
        (["<manifest:files:<n>>"], [MANIFEST | {"manifest_file_header": "<n>"}]),
        (["--m=<manifest:data_ids:a:b>"],
         [DATA_IDS | {"manifest_file_header": "a:b", "flag": "--m="}]),
        (["<n>"], [NUMBER]),
        (["out_<n>.tsv"],
         [NUMBER | {"container_num_prefix": "out_", "container_num_suffix": ".tsv"}]),
        (["--out=/o/out_<n>"], [NUMBER | {"container_num_prefix": "/o/out_", "flag": "--out="}]),
        ([], []),
    ],
)  # fmt: skip
def test_words_are_parsed_to_arguments(words, args):
    parsed = parse_arguments(words)
    assert parsed.args == args
    assert parsed.notes == []
    Parameters.model_validate({"args": parsed.args})


def test_flag_with_value_is_split_with_a_note():
    parsed = parse_arguments(["--x=4", "--y=a/b.txt"])
    assert parsed.args == ["--x", "4", "--y", "a/b.txt"]
    assert [note.split(" runs as ")[0] for note in parsed.notes] == ["--x=4", "--y=a/b.txt"]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("", "empty"),
        ("a,b", "'a,b'"),
        ("if=disk", "'if=disk'"),
        ("-x=4", "'-x=4'"),  # a short flag may take '=4' as its value
        ("--x=-4", "'--x=-4'"),  # a word of its own would be another flag
        ("a b", "'a b'"),
        ("<file>", "no placeholder"),
        ("<files:comma", "<files:comma"),
        ("<files>.gz", "no placeholder"),
        ("<n>-x", "'-x' cannot stand beside <n>"),
        ("-<n>", "'-' cannot stand beside <n>"),
        ("<n><n>", "<n>"),
        ("<manifest:data_ids:>", "no placeholder"),
        ("<manifest:data_ids:a\x07>", "header"),
    ],
)
def test_invalid_arguments_are_refused(word, said):
    with pytest.raises(ArgumentsError) as caught:
        parse_arguments(["ok", word])
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "words", [["<files:repeat>"], ["a b.txt", "<files:repeat>"], ["x", "<files:repeat>"]]
)
def test_repeat_requires_a_flag(words):
    with pytest.raises(ArgumentsError):
        parse_arguments(words)


def test_environment_values():
    assert parse_value("/ref/x.dmnd") == "/ref/x.dmnd"
    assert parse_value("<files:comma>") == COMMA
    assert parse_value("r<n>") == NUMBER | {"container_num_prefix": "r"}
    with pytest.raises(ArgumentsError, match="--x"):
        parse_value("--x")


def _argv(args):
    job = JobInput.model_validate(
        {
            "cluster": "local",
            "image": "host/x",
            "params": {"args": args},
            "output_dir": "data/out",
            "input_files": [{"file": f"data/in/{n}.fa", "data_id": f"id{n}"} for n in range(5)],
            "num_containers": 2,
        }
    )
    return [(plan.argv, plan.manifest) for plan in plan_job(job, make_image())]


@pytest.mark.slow
@given(argument_lists())
def test_formatted_arguments_round_trip(args):
    parsed = parse_arguments(format_arguments(args))
    assert parsed.notes == []
    assert _argv(parsed.args) == _argv(args)
    assert parse_arguments(format_arguments(parsed.args)).args == parsed.args


def test_every_vector_of_the_deployed_service_round_trips():
    for case in VECTORS:
        args = case["job_input"]["params"].get("args")
        if args is None or "containers" not in case:
            continue
        parsed = parse_arguments(format_arguments(args))
        job = case["job_input"] | {"params": case["job_input"]["params"] | {"args": parsed.args}}
        plans = plan_job(JobInput.model_validate(job), make_image(entrypoint=case["entrypoint"]))
        assert [plan.argv for plan in plans] == [c["argv"] for c in case["containers"]]
