"""Why a job failed: containers by reason, the inputs that a text names, and the resubmission that mends it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from types import SimpleNamespace

import pytest

from cts_core.model.resubmission import Resubmission
from cts_core.model.site import SiteLimits
from cts_core.why import (
    MAX_INPUTS,
    MAX_LOGS,
    NO_OUTPUTS,
    JobFacts,
    Lack,
    LogTail,
    explain,
    find_lack,
    lack_warnings,
    logs_to_read,
    tail_text,
)
from cts_core.worker.advice import AGAIN, LONGER_RUNTIME, MORE_MEMORY, changed_input

JOB = JobFacts(
    state="error",
    error="At least one container failed",
    memory=8_000_000_000,
    runtime=timedelta(hours=1),
    cpus=2,
    output_mount="/output_files",
    limits=SiteLimits(cpus_per_node=16, memory_per_node_gb=64, max_runtime_min=600),
    max_cpu_hours=100,
)


@dataclass(frozen=True)
class Container:
    number: int
    state: str = "error"
    exit_code: int | None = None
    error: str | None = None
    names: tuple[str, ...] = ()
    max_memory: int | None = None
    max_anonymous_memory: int | None = None

    @property
    def inputs(self):
        names = self.names or (f"{self.number}.fna",)
        return [SimpleNamespace(file=f"data/in/{name}") for name in names]


def test_containers_are_grouped_by_reason_the_most_frequent_first():
    containers = [
        Container(0, "complete", 0),
        Container(1, exit_code=4),
        Container(2, error=f"It used 1.2 GB of memory: its limit is 1 GB. {MORE_MEMORY}"),
        Container(3, error=f"It used 950 MB of memory: its limit is 1 GB. {MORE_MEMORY}"),
        Container(4, error="Its inputs could not be fetched: 'data/a' is gone."),
        Container(5, error="Its inputs could not be fetched: 'data/b' is gone."),
        Container(6, error="Its inputs could not be fetched: 'data/c' is gone."),
        Container(7, "job_submitted"),
    ]
    found = explain(JOB, containers, {4: LogTail(stderr="x")})
    assert [reason.containers for reason in found.reasons] == [[4, 5, 6], [2, 3], [1]]
    assert [reason.exit_code for reason in found.reasons] == [None, None, 4]
    assert [reason.stderr for reason in found.reasons] == ["x", None, None]
    assert str(found.reasons[1].reason).startswith("It used up to 1.2 GB of memory:")
    assert found.reasons[2].reason is None
    assert found.reasons[0].inputs == ["data/in/4.fna", "data/in/5.fna", "data/in/6.fna"]


@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        (
            [f"It used {used} of memory and was stopped: its limit is 20 MB. {MORE_MEMORY}" for used in ("24.3 MB", "1.2 GB", "26.3 MB")],
            f"It used up to 1.2 GB of memory and was stopped: its limit is 20 MB. {MORE_MEMORY}",
        ),
        (
            [f"it asked for 100 MiB of memory and used {used} MiB. {MORE_MEMORY}" for used in (120, 1200)],
            f"it asked for 100 MiB of memory and used up to 1200 MiB. {MORE_MEMORY}",
        ),
        (["It used 3 MB.", "It used 3 MB."], "It used 3 MB."),
        ([f"It used 24.3 MB of memory. {MORE_MEMORY}"], f"It used 24.3 MB of memory. {MORE_MEMORY}"),
        (["The path 'a' was not found", "The path 'b' was not found"], "The path 'a' was not found"),
    ],
)  # fmt: skip
def test_reason_of_containers_that_used_different_amounts_says_the_most(errors, reason):
    containers = [Container(number, error=error) for number, error in enumerate(errors)]
    found = explain(JOB, containers, {})
    assert [(one.reason, len(one.containers)) for one in found.reasons] == [(reason, len(errors))]


def test_inputs_that_the_log_names_come_first():
    names = tuple(f"genome{n}.fna" for n in range(300))
    log = LogTail(stderr="reading genome12.fna\nmy-genome3.fna.gz is no FASTA: /in/genome250.fna")
    (reason,) = explain(JOB, [Container(0, exit_code=1, names=names)], {0: log}).reasons
    assert reason.inputs[:3] == [f"data/in/genome{n}.fna" for n in (12, 250, 0)]
    assert (len(reason.inputs), reason.input_count) == (MAX_INPUTS, 300)


def test_logs_of_the_first_containers_are_read():
    containers = [Container(n, exit_code=n) for n in range(1, 10)]
    assert logs_to_read(JOB, containers) == list(range(1, 1 + MAX_LOGS))
    without = replace(JOB, error=NO_OUTPUTS)
    assert logs_to_read(without, [Container(n, "complete", 0) for n in range(3)]) == [0]
    assert logs_to_read(JOB, []) == []


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (LogTail(), "nothing was in /results at its end."),
        (LogTail(stdout="1"), "nothing was in /results at its end, and the program wrote to stdout alone."),
        (LogTail("1", "2"), "nothing was in /results at its end, and the program wrote to stdout and stderr alone."),
    ],
)  # fmt: skip
def test_job_without_outputs_names_the_folder_and_where_it_wrote(log, words):
    job = replace(JOB, error=NO_OUTPUTS, output_mount="/results")
    found = explain(job, [Container(0, "complete", 0), Container(1, "complete", 0)], {0: log})
    (reason,) = found.reasons
    assert reason.reason == f"{NO_OUTPUTS}: {words}"
    assert (reason.containers, reason.inputs) == ([], []), "no container is to blame"
    assert "below /results" in reason.hint
    assert found.fix is None


EARLIER = [
    (
        "The container was stopped: it asked for 100 MiB of memory and used 120 MiB.",
        {"memory": 16_000_000_000},
    ),
    (
        "The container was stopped: it asked for 100 MiB of memory and used more; 90 MiB were measured last.",
        {"memory": 16_000_000_000},
    ),
    (
        "The container was stopped: it ran for 1 h 2 min, and its limit is 1 h.",
        {"runtime": timedelta(hours=2)},
    ),
    (
        "The expected CRC64/NMVE checksum 'a' for the path 'data/x' does not match the actual checksum 'b'",
        {"refresh_inputs": True},
    ),
]


@pytest.mark.parametrize(("error", "fix"), EARLIER)
def test_sentences_of_earlier_versions_are_known(error, fix):
    found = explain(JOB, [Container(0, error=error), Container(1, "complete", 0)], {})
    assert found.fix == Resubmission(failed=True, **fix)


def test_input_that_is_gone_is_stored_again_first():
    gone = [Container(0, error="The path 'data/in/a' was not found"), Container(1, "complete", 0)]
    found = explain(JOB, gone, {})
    assert found.reasons[0].hint.startswith("Store the input again")
    assert found.fix == Resubmission(failed=True, refresh_inputs=True)


MEMORY, RUNTIME = Container(0, error=f"It. {MORE_MEMORY}"), Container(0, error=LONGER_RUNTIME)


@pytest.mark.parametrize(
    ("container", "job", "fix"),
    [
        (MEMORY, {}, {"memory": 16_000_000_000}),
        (MEMORY, {"memory": 40_000_000_000}, {"memory": 64_000_000_000}),
        (MEMORY, {"memory": 64_000_000_000}, None),
        (MEMORY, {"memory": 600_000_000_000, "limits": None}, {"memory": 990_000_000_000}),
        (replace(MEMORY, max_memory=20_000_000_000), {}, {"memory": 40_000_000_000}),
        (replace(MEMORY, max_memory=20_000_000_000, max_anonymous_memory=9_111_000_000), {}, {"memory": 19_000_000_000}),
        (replace(MEMORY, max_anonymous_memory=40_000_000_000), {}, {"memory": 64_000_000_000}),
        (MEMORY, {"memory_used": 10_000_000_000}, {"memory": 20_000_000_000}),
        (Container(0, exit_code=137), {}, {"memory": 16_000_000_000}),
        (RUNTIME, {}, {"runtime": timedelta(hours=2)}),
        (RUNTIME, {"runtime": timedelta(hours=8)}, {"runtime": timedelta(hours=10)}),
        (RUNTIME, {"runtime": timedelta(hours=10)}, None),
        (RUNTIME, {"cpus": 80}, {"runtime": timedelta(hours=1.25)}),
        (RUNTIME, {"cpus": 100}, None),
        (Container(0, error=f"The node is gone. {AGAIN}"), {}, {}),
        (Container(0, error=f"It failed: {changed_input('data/a', 'x', 'y')}."), {}, {"refresh_inputs": True}),
        (Container(0, error="The image is damaged: build it anew."), {}, {}),
        (Container(0, exit_code=1), {}, {"refresh_inputs": True}),
        (MEMORY, {"state": "job_submitted"}, None),
        (MEMORY, {"lacked_before": Lack(memory=4_000_000_000)}, {"memory": 32_000_000_000}),
        (MEMORY, {"lacked_before": Lack(memory=4_000_000_000), "memory_used": 10_000_000_000}, {"memory": 40_000_000_000}),
        (MEMORY, {"lacked_before": Lack(memory=4_000_000_000), "memory": 20_000_000_000}, {"memory": 64_000_000_000}),
        (MEMORY, {"lacked_before": Lack(memory=8_000_000_000)}, {"memory": 16_000_000_000}),
        (MEMORY, {"lacked_before": Lack(runtime=timedelta(minutes=1))}, {"memory": 16_000_000_000}),
        (RUNTIME, {"lacked_before": Lack(runtime=timedelta(minutes=30))}, {"runtime": timedelta(hours=4)}),
        (RUNTIME, {"lacked_before": Lack(runtime=timedelta(hours=2))}, {"runtime": timedelta(hours=2)}),
    ],
)  # fmt: skip
def test_fix_stays_within_the_limits_of_the_site(container, job, fix):
    found = explain(replace(JOB, **job), [container, Container(1, "complete", 0)], {})
    wanted = None if fix is None else Resubmission(failed=True, **fix)
    assert (found.reasons[0].fix, found.fix) == (wanted, wanted)
    assert found.reasons[0].hint


def test_memory_is_what_siblings_used_too():
    sibling = Container(1, "complete", 0, max_anonymous_memory=12_000_000_000)
    found = explain(JOB, [MEMORY, sibling], {})
    assert found.fix == Resubmission(failed=True, memory=24_000_000_000)
    assert "asked for 8 GB of memory: ask for more, such as 24 GB" in found.reasons[0].hint


def test_advice_says_that_more_was_tried_already():
    job = replace(JOB, lacked_before=Lack(memory=4_000_000_000, runtime=timedelta(minutes=30)))
    found = explain(job, [MEMORY, replace(RUNTIME, number=1)], {})
    assert [reason.hint for reason in found.reasons] == [
        "It asked for 8 GB of memory, and the job that it resubmits had failed with 4 GB: ask for more, such as 32 GB.",
        "It asked for a runtime of 1 h, and the job that it resubmits had failed with 30 min: ask for more, such as 4 h.",
    ]


@pytest.mark.parametrize(
    ("container", "lack"),
    [
        (MEMORY, Lack(memory=8)),
        (Container(0, exit_code=137), Lack(memory=8)),
        (RUNTIME, Lack(runtime=timedelta(1))),
        (Container(0, exit_code=1), Lack()),
        (Container(0, error="The node is gone."), Lack()),
        (Container(0, "canceled", exit_code=137), Lack()),
    ],
)
def test_lack_of_a_job_is_that_of_its_failed_containers(container, lack):
    assert find_lack(8, timedelta(1), [Container(1, "complete", 0), container]) == lack


@pytest.mark.parametrize(
    "text",
    ["usage: tool [-h] IN", "a\n  Usage: tool IN", "tool: unrecognized option '--trheads'", "Error: No such option: -x", "invalid option -- 'q'"],
)  # fmt: skip
def test_arguments_that_the_program_does_not_take_are_not_tried_again(text):
    for log in (LogTail(stderr=text), LogTail(stdout=text)):
        found = explain(JOB, [Container(0, exit_code=2)], {0: log})
        assert (found.fix, found.reasons[0].fix) == (None, None)
        assert "submit it with others" in found.reasons[0].hint


def test_fix_of_the_job_mends_all_that_one_can():
    containers = [MEMORY, replace(RUNTIME, number=1), Container(2, exit_code=1)]
    fix = explain(JOB, containers, {}).fix
    assert fix == Resubmission(
        failed=True, memory=16_000_000_000, runtime=timedelta(hours=2), refresh_inputs=True
    )


def test_job_that_failed_by_itself():
    found = explain(replace(JOB, error="Mount points overlap"), [], {})
    (reason,) = found.reasons
    assert (reason.reason, reason.containers, reason.inputs) == ("Mount points overlap", [], [])
    assert found.fix == Resubmission()


def test_canceled_job_is_resubmitted_where_it_stopped():
    job = replace(JOB, state="canceled", error=None)
    containers = [Container(0, "complete", 0), Container(1, "canceled", 143)]
    assert explain(job, containers, {}).reasons == []
    assert explain(job, containers, {}).fix == Resubmission(failed=True)
    assert explain(job, containers[:1], {}).fix == Resubmission()
    assert explain(replace(job, state="complete"), containers[:1], {}).fix is None


def test_end_of_a_log():
    assert tail_text(b"a\nb\n\n", is_whole=True) == "a\nb"
    assert tail_text(b"half\nwhole\xff", is_whole=False) == "whole\ufffd"
    assert tail_text(b"one line", is_whole=False) == "one line"
    assert len(tail_text(b"x\n" * 50, is_whole=True).splitlines()) == 20


@pytest.mark.parametrize(
    ("memory", "hours", "words"),
    [
        (8_000_000_000, 1, ["memory with 8 GB", "runtime with 1 h"]),
        (7_000_000_000, 2, ["memory with 8 GB"]),
        (9_000_000_000, 1, ["runtime with 1 h"]),
        (9_000_000_000, 2, []),
    ],
)
def test_resubmission_that_asks_for_no_more_is_warned_of(memory: int, hours: int, words: list[str]):
    lack = Lack(memory=8_000_000_000, runtime=timedelta(hours=1))
    warnings = lack_warnings(lack, memory, timedelta(hours=hours))
    assert len(warnings) == len(words)
    assert all(word in warning for word, warning in zip(words, warnings, strict=True))
    assert lack_warnings(Lack(), memory, timedelta(hours=hours)) == []
