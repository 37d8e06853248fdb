"""What a program that bubblewrap isolates can reach, and how it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cts_core.errors import ConfigError, IllegalParameterError
from cts_core.identity.identity import User
from cts_core.images.programs import resolve_program
from cts_core.worker.runtimes import sandbox
from tests.harness.sites import LOG_DIR, isolated, local_harness, opened

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("bubblewrap")]

ANA = User("ana")
OUT = {"args": ["/output_files"]}
LOOK_AROUND = """
exec 2>/dev/null
cd "$1"
cat "$SERVER_FILE" > server_file
cat /etc/shadow > shadow
ls "$HOME_FOLDER" > home
ls "$JOBS" > jobs
cat /proc/[0-9]*/environ | tr '\\0' '\\n' > environments
ls -d /proc/[0-9]* | wc -l > processes
touch "$2" && echo written > input
touch /usr/written && echo written > system
touch /written; touch /dev/written; touch "$(dirname "$SERVER_FILE")/written"
ls -d /written /dev/written "$(dirname "$SERVER_FILE")/written" > memory
touch /tmp/mine && cat "$TMPDIR/mine" > tmp
grep CapEff /proc/self/status > capabilities
true
"""


async def test_program_sees_neither_files_nor_processes_of_the_server(tmp_path: Path):
    private = tmp_path / "private"
    private.mkdir()
    (private / "cts.env").write_text("secret of the server")
    with subprocess.Popen(["sleep", "60"], env={"CTS_TOKEN": "secret of a kernel"}) as other:
        harness = local_harness(tmp_path, **isolated(tmp_path))
        params = {
            "args": ["/output_files", _FILES],
            "environment": {
                "SERVER_FILE": f"{private}/cts.env",
                "HOME_FOLDER": str(Path.home()),
                "JOBS": f"{tmp_path}/local/jobs",
            },
        }
        async with opened(harness):
            job = harness.job(LOOK_AROUND, params=params)
            allowed = {"variables": ["SERVER_FILE", "HOME_FOLDER", "JOBS"]}
            image = job.image.model_copy(update=allowed)
            await harness.hand_over(job.model_copy(update={"image": image}))
            (report,) = (await harness.until(job)).values()
            seen = {
                output.file.removeprefix("data/out/"): harness.objects.read(output.file).decode()
                for output in report.outcome.outputs or ()
            }
        other.kill()
    assert report.outcome.error is None
    # Its own container's folder alone.
    assert seen.pop("jobs").split() == [job.id]
    assert int(seen.pop("processes")) < 10
    environments = seen.pop("environments")
    assert f"CTS_CONTAINER={job.id}/0" in environments
    assert "secret" not in environments
    assert int(seen.pop("capabilities").split()[1], 16) == 0
    # Where nothing could be read, the files are empty.
    assert seen == {"server_file": "", "shadow": "", "home": "", "tmp": "", "memory": ""}


_FILES = {"type": "input_files", "input_files_format": "space_separated_list"}


async def test_variables_reach_the_program_and_not_bubblewrap(tmp_path: Path):
    variables = {"LD_PRELOAD": "/input_files/libcap.so.2", "PATH": "/input_files"}
    script = """
    cd "$1"
    /usr/bin/env > program
    /usr/bin/tr '\\0' '\\n' < /proc/1/environ > bubblewrap
    /usr/bin/tr '\\0' '\\n' < /proc/1/cmdline > command
    /usr/bin/ls /proc/self/fd > descriptors
    """
    harness = local_harness(tmp_path, **isolated(tmp_path))
    async with opened(harness):
        job = harness.job(script, params={**OUT, "environment": variables})
        image = job.image.model_copy(update={"variables": list(variables)})
        await harness.hand_over(job.model_copy(update={"image": image}))
        (report,) = (await harness.until(job)).values()
    assert report.outcome.exit_code == 0
    seen = {
        name: harness.objects.read(f"data/out/{name}").decode().splitlines()
        for name in ("program", "bubblewrap", "command", "descriptors")
    }
    assert {"LD_PRELOAD=/input_files/libcap.so.2", "PATH=/input_files"} <= set(seen["program"])
    assert f"CTS_CONTAINER={job.id}/0" in seen["program"]
    assert seen["bubblewrap"] == [f"CTS_CONTAINER={job.id}/0"]
    assert Path(seen["command"][0]).is_absolute()
    assert "LD_PRELOAD" not in seen["command"]
    # The last is that of the listing.
    assert seen["descriptors"] == ["0", "1", "2", "3"]


def test_a_variable_is_as_long_as_without_bubblewrap():
    longest = {"LIST": "x" * ((128 << 10) - len("LIST=") - 1)}
    longer = {"LIST": longest["LIST"] + "x"}
    subprocess.run(["/bin/true"], env=longest, check=True)
    sandbox.variables_file(longest).close()
    with pytest.raises(OSError, match="Argument list too long"):
        subprocess.run(["/bin/true"], env=longer, check=True)
    with pytest.raises(OSError, match="Argument list too long"):
        sandbox.variables_file(longer)


async def test_hidden_folder_is_not_seen_through_links(tmp_path: Path):
    data = tmp_path / "data"
    (data / "cts").mkdir(parents=True)
    (data / "cts" / "secret").write_text("secret")
    (data / "tool").write_text("tool")
    home, tools = tmp_path / "home", tmp_path / "elsewhere" / "tools"
    tools.parent.mkdir()
    home.symlink_to(data / "cts")
    tools.symlink_to(data)
    for visible, folders in ((tmp_path, (data,)), (data, (data,)), (tools, (data, tools))):
        harness = local_harness(home, private_folders=[home], program_folders=[str(visible)])
        harness.shared = tmp_path
        script = 'out=$1; shift; cat "$@" > "$out/seen" 2>/dev/null; true'
        files = [f"{folder}/{name}" for folder in folders for name in ("tool", "cts/secret")]
        async with opened(harness):
            params = {"args": ["/output_files", *files, f"{home}/secret"]}
            job = await harness.start(script, params=params)
            (report,) = (await harness.until(job)).values()
        assert report.outcome.error is None
        assert harness.objects.read("data/out/seen") == b"tool" * len(folders)


async def test_shared_memory_is_bounded(tmp_path: Path):
    script = 'head -c 99999999 /dev/zero > /dev/shm/x; wc -c < /dev/shm/x > "$1/bytes"'
    harness = local_harness(tmp_path, **isolated(tmp_path))
    async with opened(harness):
        job = await harness.start(script, params=OUT)
        await harness.until(job)
    assert int(harness.objects.read("data/out/bytes")) == 64 << 20


def test_first_process_of_a_container_can_isolate_programs():
    code = "import os; from cts_core.worker.runtimes import sandbox; print(os.getpid(), sandbox.find_fault())"
    out = subprocess.run(
        [
            "unshare",
            "--map-root-user",
            "--pid",
            "--fork",
            "--mount-proc",
            sys.executable,
            "-c",
            code,
        ],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout
    assert out == "1 None\n"


async def test_program_is_asked_to_end_before_it_is_killed(tmp_path: Path):
    harness = local_harness(tmp_path, **isolated(tmp_path), stop_grace=20.0)
    script = 'trap "echo asked; exit 3" TERM; echo ready; while :; do sleep 0.05; done'
    async with opened(harness):
        job = await harness.start(script, runtime=10)
        (report,) = (await harness.until(job)).values()
    assert report.outcome.exit_code == 3
    assert harness.objects.read(f"{LOG_DIR}{job.id}/container-0-stdout.txt") == b"ready\nasked\n"


async def test_exit_code_of_a_signal(tmp_path: Path):
    harness = local_harness(tmp_path, **isolated(tmp_path))
    async with opened(harness):
        job = await harness.start("kill -SEGV $$")
        (report,) = (await harness.until(job)).values()
    assert report.outcome.exit_code == 139


async def test_module_runs_by_the_servers_interpreter(tmp_path: Path):
    harness = local_harness(tmp_path, **isolated(tmp_path))
    async with opened(harness):
        job = harness.job("true")
        image = job.image.model_copy(update={"entrypoint": [sys.executable, "-m", "this"]})
        digest = (await resolve_program(executable=None, module="this")).digest
        job = job.model_copy(update={"image": image.model_copy(update={"digest": digest})})
        await harness.hand_over(job)
        (report,) = (await harness.until(job)).values()
    assert report.outcome.exit_code == 0


async def test_site_does_not_open_where_programs_cannot_be_isolated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert sandbox.find_fault() is None
    harness = local_harness(tmp_path, **isolated(tmp_path))
    for name, program in (
        ("none", None),
        ("broken", "#!/bin/sh\necho no namespaces >&2; exit 1\n"),
    ):
        path = tmp_path / name
        if program is not None:
            path.write_text(program)
            path.chmod(0o755)
        monkeypatch.setattr(sandbox, "PROGRAM", str(path))
        expected = "there is no program" if program is None else "no namespaces"
        with pytest.raises(
            ConfigError, match=f"local.shared: .*{expected}.*apt install bubblewrap"
        ):
            await harness.site.open(harness.on_change)
    # One that starts programs, and hides nothing.
    (tmp_path / "bare").write_text(
        '#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done; shift; exec "$@"\n'
    )
    (tmp_path / "bare").chmod(0o755)
    monkeypatch.setattr(sandbox, "PROGRAM", str(tmp_path / "bare"))
    assert "hides no processes" in (sandbox.find_fault() or "")
    await harness.site.close()


async def test_folder_that_is_needed_and_hidden_is_refused(tmp_path: Path):
    (tmp_path / "real" / "tools").mkdir(parents=True)
    (tmp_path / "private").symlink_to(tmp_path / "real")
    (tmp_path / "linked").symlink_to(tmp_path / "private" / "tools")
    for needed in ("private/tools", "real/tools", "linked"):
        settings = isolated(tmp_path) | {"program_folders": [f"{tmp_path}/{needed}"]}
        harness = local_harness(tmp_path, **settings)
        with pytest.raises(
            ConfigError, match=f"{needed}, and what lies in {tmp_path}/private is hidden"
        ):
            await harness.site.open(harness.on_change)
        await harness.site.close()


def test_keys_of_the_system_are_not_seen():
    keys = (Path("/etc/ssl/private"), Path("/etc/pki/tls/private"))
    assert not [f for f in sandbox._SYSTEM_FILES if any(key.is_relative_to(f) for key in keys)]


async def test_configuration_of_jupyter_is_not_seen(tmp_path: Path):
    harness = local_harness(tmp_path, **isolated(tmp_path))
    async with opened(harness):
        job = await harness.start(
            f'find "{sys.prefix}/etc/jupyter" -type f > "$1/found"', params=OUT
        )
        (report,) = (await harness.until(job)).values()
    assert report.outcome.exit_code == 0
    assert list(Path(sys.prefix, "etc", "jupyter").rglob("*.json"))
    assert harness.objects.read("data/out/found") == b""


async def test_a_variable_that_the_program_was_not_registered_with_is_refused(tmp_path: Path):
    # What it would make of the inputs: code of the user, run before the program's own.
    params = {"environment": {"PYTHONPATH": "/input_files", "THREADS": "2"}}
    harness = local_harness(tmp_path, **isolated(tmp_path))
    async with opened(harness):
        job = harness.job("true", params=params)
        for variables, named in ((["THREADS"], "PYTHONPATH"), (None, "PYTHONPATH, THREADS")):
            image = job.image.model_copy(update={"variables": variables})
            with pytest.raises(
                IllegalParameterError, match=f"may not set the variable {named} here"
            ):
                await harness.site.preflight(ANA, job.job_input, image)
            with pytest.raises(IllegalParameterError, match="ask an admin to register"):
                await harness.hand_over(job.model_copy(update={"image": image}))
        image = job.image.model_copy(update={"variables": ["THREADS", "PYTHONPATH"]})
        await harness.hand_over(job.model_copy(update={"image": image}))
        (report,) = (await harness.until(job)).values()
    assert report.outcome.exit_code == 0


async def test_whoever_runs_their_own_programs_sets_any_variable(tmp_path: Path):
    harness = local_harness(tmp_path)
    async with opened(harness):
        job = harness.job("true", params={"environment": {"LD_PRELOAD": "/input_files/x"}})
        await harness.site.preflight(ANA, job.job_input, job.image)
