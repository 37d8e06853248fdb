"""What a worker is told: the JSON in ``plan.json``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Mapping


@dataclass(frozen=True)
class Input:
    """An object to fetch, its checksum, and where it lands below the input folder."""

    path: str
    crc64nvme: str
    place: str


@dataclass(frozen=True)
class WorkerPlan:
    """One container. Sizes in bytes, times in seconds."""

    tag: str
    """``<job id>/<number>``: marks every process of the container."""
    entrypoint: list[str]
    arguments: list[str]
    environment: dict[str, str]
    program_file: str
    """The file whose sha256 is the image's digest; for runtime ``host`` alone."""
    digest: str
    inputs: list[Input]
    input_mount: str
    output_mount: str
    objects_root: str
    """The folder of the object store; empty: objects are on S3, whose keys are in no plan."""
    output_dir: str
    """The object folder that outputs go to, without a slash at its end."""
    log_paths: dict[str, str]
    """The object for each of ``stdout`` and ``stderr``."""
    memory: int
    runtime: float
    stop_grace: float
    log_limit: int
    manifest_name: str | None = None
    manifest_text: str = ""
    refdata_mount: str | None = None
    refdata_folder: str = ""
    """What stands for ``refdata_mount``, to be read only."""
    container_runtime: str = "host"
    """``host``, ``docker``, ``podman`` or ``apptainer``."""
    runtime_command: list[str] = field(default_factory=list)
    """The runtime's program and what always follows it."""
    runtime_arguments: list[str] = field(default_factory=list)
    """Further arguments for each container, after ours."""
    image: str = ""
    """``<name>@<digest>``; empty for runtime ``host``."""
    image_folder: str = ""
    """Where a runtime without a store of its own keeps images."""
    image_bytes: int = 100 << 30
    """What they may take there, as far as nobody needs more at once."""
    plain_http: bool = False
    """Whether the image's registry is reached by http."""
    network: bool = True
    """Whether the container has the network that its runtime gives it, or none."""
    cpus: int = 1
    mount_from: str = ""
    """A folder of the worker's that its runtime sees as ``mount_to``; empty: both see the same."""
    mount_to: str = ""

    def to_json(self) -> dict[str, Any]:
        """As it is written to ``plan.json``."""
        return asdict(self)

    @classmethod
    def load(cls, path: str) -> WorkerPlan:
        """As it was written to ``plan.json``."""
        with open(path, encoding="utf-8") as file:
            return cls.from_json(json.load(file))

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> WorkerPlan:
        """What ``to_json`` made; a newer server's may say more than we know. Raises TypeError and KeyError."""
        known = {each.name: told[each.name] for each in fields(cls) if each.name in told}
        return cls(**{**known, "inputs": [Input(**entry) for entry in told["inputs"]]})
