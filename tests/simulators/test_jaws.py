"""The simulator of JAWS runs what is submitted at NERSC, and leaves what JAWS leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cts_core.model.job import JobInput
from cts_core.plan import plan_job
from cts_core.sites.jaws.layout import INPUTS, MANIFESTS, WDL, Machine, cache_entry
from cts_core.sites.jaws.results import read_outputs
from cts_core.sites.jaws.sfapi import SFAPI, Task
from cts_core.sites.jaws.wdl import RunFiles, make_run
from cts_core.worker.checksum import crc64nvme_text
from cts_core.worker.run_errors import read_errors
from tests.harness.factories import make_image
from tests.harness.jaws_clients import ended_task, sfapi_client
from tests.harness.jaws_vectors import JOB_ID, LAYOUT, LEFT, REFDATA_ID
from tests.services.containers import ContainerRuntime, bash, layer
from tests.services.registry import Registry
from tests.simulators.cromwell import Images
from tests.simulators.jaws_central import JAWSRun
from tests.simulators.jaws_sites import JAWSSites, jaws_sites
from tests.simulators.sfapi import NERSC

__all__ = ["jaws_sites"]
pytestmark = pytest.mark.slow
FOLDER = LAYOUT.job(JOB_ID, Machine.PERLMUTTER)
PROBE = """
cd /out; mkdir "sub dir"; : > empty
for name in plain.txt "sub dir/it's \\$x.txt"; do echo "$N $CTS_WORDS" > "$name"; done
echo "probe says hello"; echo "probe complains" >&2
"""
IMAGE_NAME = "ghcr.io/kbase/tool"
CONTENT = "content of an input"


@pytest.fixture
async def sfapi(nersc: NERSC, tmp_path: Path) -> AsyncIterator[SFAPI]:
    async with sfapi_client(nersc, tmp_path) as client:
        yield client


@pytest.fixture
def perlmutter(jaws_sites: JAWSSites, nersc: NERSC) -> JAWSSites:
    """JAWS, with what CTS has there: the config of the client, and one input in the cache."""
    config = nersc.place(LAYOUT.jaws_config)
    config.write_text(LEFT["jaws config file"].replace("jt", jaws_sites.jaws.token))
    config.chmod(0o600)
    crc = crc64nvme_text(CONTENT.encode())
    entry = nersc.place(cache_entry(LAYOUT.cache(Machine.PERLMUTTER), crc))
    entry.parent.mkdir(parents=True)
    entry.write_text(CONTENT)
    return jaws_sites


def _make(
    script: str, *, image: str = IMAGE_NAME, refdata: bool = False, **changes: Any
) -> RunFiles:
    """Return a run of two containers, with a file and a manifest each, and the number of the container in ``N``."""
    files = [
        {"file": f"data/in/{number}.txt", "crc64nvme": crc64nvme_text(CONTENT.encode())}
        for number in range(2)
    ]
    params = {
        "output_mount_point": "/out",
        "declobber": True,
        "args": [{"type": "manifest_file", "manifest_file_format": "files"}],
        "environment": {"N": {"type": "container_number"}},
        **({"refdata_mount_point": "/ref"} if refdata else {}),
    }
    job = JobInput.model_validate(
        {
            "cluster": "perlmutter-jaws",
            "image": "x",
            "params": params,
            "num_containers": 2,
            "output_dir": "data/out",
            "input_files": files,
        }
    )
    made = make_image(
        name=image,
        entrypoint=["/bin/bash", "-c", script, "x"],
        **({"refdata_id": REFDATA_ID} if refdata else {}),
        **changes,
    ).for_job()
    return make_run(
        job,
        made,
        plan_job(job, made),
        cache=LAYOUT.cache(Machine.PERLMUTTER),
        refdata=LAYOUT.refdata_for_jaws(REFDATA_ID) if refdata else None,
    )


async def _submit(sfapi: SFAPI, run: RunFiles, site: str = "kbase") -> Task:
    await ended_task(sfapi, await sfapi.run(Machine.PERLMUTTER, f"mkdir -p {FOLDER}/{MANIFESTS}"))
    for name, text in {WDL: run.wdl, INPUTS: run.inputs, **run.manifests}.items():
        await sfapi.upload(Machine.DTNS, f"{LAYOUT.job(JOB_ID)}/{name}", text.encode())
    return await _jaws(sfapi, site)


async def _jaws(sfapi: SFAPI, site: str = "kbase", inputs: str = INPUTS) -> Task:
    command = (
        "module use /global/cfs/projectdirs/kbase/jaws/modulefiles; module load jaws; "
        f"export JAWS_USER_CONFIG=~/{LAYOUT.jaws_config}; "
        f"jaws submit --tag {JOB_ID} {FOLDER}/{WDL} {FOLDER}/{inputs} {site}"
    )
    return await ended_task(sfapi, await sfapi.run(Machine.PERLMUTTER, command))


async def _run(jaws: JAWSSites, sfapi: SFAPI, run: RunFiles, site: str = "kbase") -> JAWSRun:
    """Submit a run, and return it at its end."""
    task = await _submit(sfapi, run, site)
    assert task.is_ok, task.error
    submitted = jaws.jaws.runs[json.loads(task.output[task.output.index("{") :])["run_id"]]
    assert await asyncio.to_thread(submitted.ended.wait, 30)
    return submitted


def _result(nersc: NERSC, run: JAWSRun, name: str) -> Any:
    assert run.output_dir is not None
    return json.loads((nersc.place(run.output_dir) / name).read_text())


async def test_run_that_succeeds_leaves_the_outputs_of_the_vectors(
    perlmutter: JAWSSites, nersc: NERSC, sfapi: SFAPI
):
    run = await _run(perlmutter, sfapi, _make(PROBE))
    assert (run.status, run.result, run.tag, run.log[0]) == ("done", "succeeded", JOB_ID, "created")
    outputs = _result(nersc, run, "outputs.json")
    expected = LEFT["outputs.json of JAWS"]
    for found in (outputs, expected):
        found["ghcr_io_kbase_tool.output_files"] = [
            sorted(paths) for paths in found["ghcr_io_kbase_tool.output_files"]
        ]
    assert outputs == expected
    folder = nersc.place(run.output_dir or "")
    for files in read_outputs(json.dumps(outputs)).files:
        assert all((folder / path).is_file() for path in files.values())
    stdouts = [(folder / path).read_text() for path in outputs["ghcr_io_kbase_tool.stdouts"]]
    assert stdouts == ["probe says hello\nEntrypoint exit code: 0\n"] * 2


@pytest.mark.parametrize("tells_successes", [False, True])
async def test_run_that_fails_tells_of_the_containers_that_failed(
    perlmutter: JAWSSites, nersc: NERSC, sfapi: SFAPI, tells_successes: Any
):
    perlmutter.tells_successes = tells_successes
    run = await _run(perlmutter, sfapi, _make(f"{PROBE}\nexit $((3 * N))"))
    assert (run.status, run.result) == ("done", "failed")
    (call,) = LEFT["errors.json of JAWS"]["calls"]
    told = _result(nersc, run, "errors.json")
    (shards,) = told["calls"].values()
    assert list(told["calls"]) == [call]
    assert [entry["shardIndex"] for entry in shards] == ([0, 1] if tells_successes else [1])
    expected = LEFT["errors.json of JAWS"]["calls"][call][0]
    assert shards[-1].keys() == expected.keys()
    assert shards[-1]["stderrContents"] == expected["stderrContents"]
    assert shards[-1]["stdoutContents"] == expected["stdoutContents"]
    assert read_errors(json.dumps(told)).shards[1].exit_code == 3


@pytest.mark.parametrize("notice", ["stdout", "stderr", "none"])
async def test_client_prints_the_run_last(perlmutter: JAWSSites, sfapi: SFAPI, notice: Any):
    perlmutter.notice, perlmutter.is_held = notice, True
    task = await _submit(sfapi, _make(PROBE))
    assert [bool(text) for text in (task.output.partition("{")[0], task.error)] == [
        notice == "stdout",
        notice == "stderr",
    ]
    assert json.loads(task.output[task.output.index("{") :]) == {"run_id": 1000}


async def test_what_jaws_would_refuse_starts_nothing(
    perlmutter: JAWSSites, nersc: NERSC, sfapi: SFAPI
):
    run = _make(PROBE)
    entry = json.loads(run.inputs)["ghcr_io_kbase_tool.files"][0][0]
    assert "is no site" in (await _submit(sfapi, run, "nowhere")).error
    assert "no such file" in (await _jaws(sfapi, inputs="other.json")).error
    broken = RunFiles(run.wdl.replace("scatter", "scutter"), run.inputs, run.manifests, run.key)
    assert "not valid" in (await _submit(sfapi, broken)).error
    nersc.place(entry).unlink()
    assert "Input path not found" in (await _submit(sfapi, run)).error
    perlmutter.jaws.token = "another"
    assert "Provided token is not valid" in (await _jaws(sfapi)).error
    nersc.place(LAYOUT.jaws_config).chmod(0o644)
    assert "must have the mode 600" in (await _jaws(sfapi)).error
    assert perlmutter.jaws.runs == {}


async def test_cancelled_run_stops_its_containers(
    perlmutter: JAWSSites, nersc: NERSC, sfapi: SFAPI
):
    task = await _submit(sfapi, _make("touch /out/begun; sleep 60"))
    assert task.is_ok
    (run,) = perlmutter.jaws.runs.values()
    async with asyncio.timeout(20):
        while not list(nersc.root.rglob("begun")):
            await asyncio.sleep(0.02)
    headers = {"Authorization": f"Bearer {perlmutter.jaws.token}"}
    call = ("PUT", f"/api/v2/run/{run.id}/cancel", headers, b"")
    assert perlmutter.jaws.respond(*call).status == 200  # type: ignore[arg-type]
    assert await asyncio.to_thread(run.ended.wait, 20)
    assert (run.status, run.result, run.output_dir) == ("done", "cancelled", None)
    assert b"already been cancelled" in perlmutter.jaws.respond(*call).body  # type: ignore[arg-type]


async def test_lawrencium_has_the_reference_data_that_jaws_has_copied(
    perlmutter: JAWSSites, nersc: NERSC, sfapi: SFAPI
):
    script = "cat /ref/db.txt > /out/db; [ ! -e /ref/link ]"
    data = nersc.place(LAYOUT.refdata(REFDATA_ID))
    data.mkdir(parents=True)
    (data / "db.txt").write_text("reference")
    (data / "link").symlink_to("db.txt")
    failed = await _run(perlmutter, sfapi, _make(script, refdata=True), "jgi")
    assert failed.result == "failed"
    assert "not at this site" in json.dumps(_result(nersc, failed, "errors.json"))
    changes = nersc.place(LAYOUT.change_file(REFDATA_ID))
    # The answer is looked for as the path of the deployed service's callback.
    answer = nersc.place(
        LEFT["callback for the copy to lawrencium"]["json"]["path_condition"]["path"]
    )
    changes.write_text(f"{LAYOUT.refdata(REFDATA_ID)}\n")
    async with asyncio.timeout(20):
        while not answer.exists():
            await asyncio.sleep(0.02)
    assert json.loads(answer.read_text()) == {"result": "succeeded"}
    run = await _run(perlmutter, sfapi, _make(script, refdata=True), "jgi")
    assert run.result == "succeeded"
    at_perlmutter = await _run(perlmutter, sfapi, _make(script, refdata=True))
    assert at_perlmutter.result == "failed", "the link is there"


async def test_images_run_by_a_container_runtime(
    perlmutter: JAWSSites,
    nersc: NERSC,
    sfapi: SFAPI,
    registry: Registry,
    podman: ContainerRuntime,
):
    digest = registry.push_image("jaws", "1", ["/bin/bash"], layers=[layer(*bash())])
    image = f"{registry.host}/jaws"
    podman.run("pull", "--tls-verify=false", f"{image}@{digest}")
    perlmutter.containers, perlmutter.makes_folders = Images(podman), False
    script = 'cat "$(cat "$1")" > /out/copy; [ ! -e /usr/bin/python3 ]; exit $?'
    run = await _run(perlmutter, sfapi, _make(script, image=image, digest=digest))
    assert run.result == "succeeded", _result(nersc, run, "errors.json")
    (name,) = {key.partition(".")[0] for key in _result(nersc, run, "outputs.json")}
    assert name.startswith("image_127_0_0_1_")
    assert [path.read_text() for path in nersc.place(run.output_dir or "").rglob("copy")] == [
        CONTENT
    ] * 2
    assert podman.containers() == []
