"""Tab completion of ``%cts``, as IPython's completer and a kernel give it."""

from __future__ import annotations

import threading
import time

import pytest
from IPython.core.completer import provisionalcompleter
from jupyter_client.manager import KernelManager

from cts_jupyter.notebook.magics import candidates, completion
from cts_jupyter.notebook.magics.candidates import Candidate, CandidateCache
from cts_jupyter.notebook.magics.completion import SOURCES, ask_about_cell, ask_about_line
from cts_jupyter.notebook.magics.magic import COMMANDS
from cts_jupyter.notebook.session import JobReferenceError

FREE = {
    "TEXT", "K=V", "M", "T", "N", "P", "VAR", "CPUS", "A,B", "N,N", "NAME", "MOD",
}  # fmt: skip
"""Values that a person makes up."""
NAMED = {"JOB", "STATE", "CMD", "EXAMPLE"}
"""Values of which some are known without a service."""


def offered(line, variables=()):
    question = ask_about_line(line, COMMANDS, variables)
    return {each.text for each in question.known if each.text.startswith(question.word)}


def test_commands_options_states_and_placeholders_need_no_service():
    assert {"submit", "status", "sites"} == offered("%cts s")
    assert {"submit", "status", "sites"} == offered("x = %cts s")
    assert offered("%cts submit --me") == {"--memory"}
    assert offered("%%cts submit host/x --m") == {"--memory"}
    assert {"done", "live"} <= offered("%cts ls --state ")
    assert offered("%cts ls --state=don") == {"done"}
    assert ask_about_line("%cts ls --state=don", COMMANDS, ()).word == "don"
    assert offered("%cts ls --sort c") == {"created"}
    assert offered("%cts logs -c f") == {"failed"}
    assert offered("%cts help wa") == {"watch"}
    assert "two-thousand-files" in offered("%cts examples t")
    assert "<files:comma>" in offered("%cts submit host/x -- --in ")
    assert offered("%cts submit $g", ["genomes", "_g"]) == {"$genomes"}
    assert "-" in offered("%cts why ")


@pytest.mark.parametrize(
    ("line", "sources"),
    [
        ("%cts why ", ["jobs"]),
        ("%cts why x ", []),
        ("%cts watch a ", ["jobs"]),
        ("%cts submit ", ["images"]),
        ("%cts submit host/x -i a/ ", ["paths"]),
        ("%cts submit -i a/b c", ["paths"]),
        ("%cts submit -n 3 ", ["images"]),
        ("%cts submit -n ", []),
        ("%cts submit host/x --cluster ", ["sites"]),
        ("%cts submit host/x --cluster=k", ["sites"]),
        ("%cts submit host/x --overwrite --tsv ", ["local_paths"]),
        ("%cts verify ", ["paths", "jobs"]),
        ("%cts get a/b ", ["paths", "jobs", "local_paths"]),
        ("%cts put x ", ["local_paths", "paths"]),
        ("%cts ls --label ", ["labels"]),
        ("%cts images --refdata ", ["refdata"]),
        ("%cts why 'x", ["jobs"]),
        ("%cts why 'x y", []),
        ("%cts nothing ", []),
    ],
)
def test_what_a_service_is_asked_for(line, sources):
    question = ask_about_line(line, COMMANDS, ())
    assert [source.__name__ for source in question.sources] == sources


def test_other_lines_are_not_completed():
    for line in ("cts.job(", "print('%cts ", "%ctsx y", "%timeit x", "%cts"):
        assert ask_about_line(line, COMMANDS, ()) is None


def test_cells_are_completed_by_keys():
    assert Candidate("output_dir: ", "key") in ask_about_cell("out").known
    assert ask_about_cell("image: ").sources == [candidates.images]
    assert ask_about_cell("  - x").known == ()


def test_every_value_of_every_command_is_completed_or_free():
    names = {
        name
        for command in COMMANDS.values()
        for action in command.parser()._actions
        if action.nargs != 0
        for name in str(action.metavar).split("|")
        if not (name.islower() or name.startswith("{"))
    }
    assert names <= {*SOURCES, *FREE, *NAMED}, "say in completion.py what may stand there"
    assert {*SOURCES, *FREE, *NAMED} <= names


@pytest.fixture
def cache(monkeypatch):
    session = object()
    monkeypatch.setattr(candidates, "current_session", lambda: session)
    return CandidateCache()


def soon():
    return time.monotonic() + 5


def test_what_does_not_come_in_time_is_there_the_next_time(cache):
    go_on, asked = threading.Event(), []

    def silent(session, text):
        asked.append(text)
        go_on.wait(60)
        return [Candidate("x", "")]

    assert cache.find(silent, "", time.monotonic()) == ()
    assert cache.find(silent, "", time.monotonic()) == ()
    go_on.set()
    assert cache.find(silent, "", soon()) == (Candidate("x", ""),)
    assert cache.find(silent, "", time.monotonic()) == (Candidate("x", ""),)
    assert asked == [""], "one request at a time, and none for what is fresh"


def test_a_silent_service_is_asked_a_few_things_at_most(cache):
    go_on, asked = threading.Event(), []

    def silent(session, text):
        asked.append(text)
        go_on.wait(60)
        return []

    for number in range(20):
        cache.find(silent, str(number), time.monotonic())
    go_on.set()
    assert len(asked) <= candidates._MAX_RUNNING


def test_old_answers_are_offered_until_they_are_too_old(cache, monkeypatch):
    answers = [[Candidate("old", "")]]

    def source(session, text):
        if not answers:
            raise JobReferenceError("a fault")
        return answers.pop()

    assert cache.find(source, "", soon()) == (Candidate("old", ""),)
    monkeypatch.setattr(candidates, "FRESH_SECONDS", 0.0)
    assert cache.find(source, "", soon()) == (Candidate("old", ""),)
    monkeypatch.setattr(candidates, "MAX_AGE_SECONDS", 0.0)
    assert cache.find(source, "", soon()) == ()


def test_answers_of_another_service_are_forgotten(cache, monkeypatch):
    cache.find(candidates_of_x := (lambda session, text: [Candidate("x", "")]), "", soon())
    other = object()
    monkeypatch.setattr(candidates, "current_session", lambda: other)
    assert cache.find(lambda session, text: [], "", soon()) == ()
    assert list(cache._kept) != []
    assert all(source is not candidates_of_x for source, _ in cache._kept)


@pytest.fixture
def complete(shell, ipython, monkeypatch):
    """Return a function that completes a cell at its end, and returns the text of each completion with what is beside it."""
    monkeypatch.setattr(completion, "BUDGET_SECONDS", 30.0)
    monkeypatch.setattr(candidates, "FRESH_SECONDS", 0.0)

    def complete_(cell):
        with provisionalcompleter():
            found = list(ipython.Completer.completions(cell, len(cell)))
        return {cell[: each.start] + each.text: each.type for each in found}

    return complete_


@pytest.mark.slow
def test_completions_of_a_shell_are_those_of_the_service(shell, complete, inputs, place):
    job = shell(
        f"%cts submit host/tool -i {inputs} --output-dir {place}out/ --memory 50MB --runtime 1m --label run=one -- ok /output_files/o"
    )
    job.wait(60)
    beside = complete("%cts why ")[f"%cts why {job.id[:8]}"]
    assert "tool" in beside
    assert "Done" in beside
    assert complete("%cts submit host/to")["%cts submit host/tool:latest"].endswith(".sh")
    assert f"%cts files {inputs}a.txt" in complete(f"%cts files {inputs}")
    assert f"%cts files s3://{inputs}" in complete(f"%cts files s3://{place}")
    assert "%cts files data/" in complete("%cts files da")
    assert "%cts ls --label run=" in complete("%cts ls --label r")
    assert "%cts put a.txt" in complete("%cts put a")
    assert "%cts submit --cluster local" in complete("%cts submit --cluster ")
    assert "%%cts submit\nimage: host/tool:latest" in complete("%%cts submit\nimage: host/t")
    assert complete("job_na = 1; ") is not None
    # Names of Python have no place on such a line.
    assert set(complete("%cts wh")) == {"%cts why", "%cts whoami"}


@pytest.mark.slow
def test_a_service_that_is_away_offers_nothing(shell, complete, monkeypatch):
    monkeypatch.setenv("CDM_TASK_SERVICE_URL", "http://127.0.0.1:1/cts")
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", "/nonexistent")
    assert complete("%cts submit host/to") == {}
    assert "%cts submit --memory" in complete("%cts submit --mem")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_kernel_completes_for_jupyterlab(shell, tmp_path):
    file = str(tmp_path / "kernel.json")
    manager = KernelManager(kernel_name="python3", transport="ipc", connection_file=file)
    manager.start_kernel()
    try:
        client = manager.client()
        client.start_channels()
        client.wait_for_ready(timeout=60)
        client.execute_interactive("%load_ext cts_jupyter", timeout=60)
        cell = "%%cts submit host/tool --mem"
        reply = client.complete(cell, reply=True, timeout=60)["content"]
        client.stop_channels()
    finally:
        manager.shutdown_kernel(now=True)
    assert (reply["matches"], reply["cursor_start"]) == (["--memory"], cell.index("--mem"))
    assert reply["metadata"]["_jupyter_types_experimental"][0]["type"].startswith("per container")
