"""The worker plan: what one worker is to run, as JSON in ``plan.json``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Mapping


@dataclass(frozen=True)
class Input:
    """An object to fetch, its checksum, and its target path below the input folder."""

    path: str
    crc64nvme: str
    place: str


@dataclass(frozen=True)
class WorkerPlan:
    """The plan of one container. Sizes in bytes, times in seconds."""

    tag: str
    """``<job id>/<number>``: marks every process of the container."""
    entrypoint: list[str]
    arguments: list[str]
    environment: dict[str, str]
    program_file: str
    """The file whose sha256 is the image's digest; for runtime ``host`` only."""
    digest: str
    inputs: list[Input]
    input_mount: str
    output_mount: str
    objects_root: str
    """The folder of the object store; empty: objects are on S3, whose keys are in no plan."""
    output_dir: str
    """The object folder for the outputs, without a trailing slash."""
    log_paths: dict[str, str]
    """The object path for each of ``stdout`` and ``stderr``."""
    memory: int
    runtime: float
    stop_grace: float
    log_limit: int
    manifest_name: str | None = None
    manifest_text: str = ""
    refdata_mount: str | None = None
    refdata_folder: str = ""
    """The folder mounted read-only at ``refdata_mount``."""
    container_runtime: str = "host"
    """``host``, ``docker``, ``podman`` or ``apptainer``."""
    runtime_command: list[str] = field(default_factory=list)
    """The runtime's program and the arguments that always follow it."""
    runtime_arguments: list[str] = field(default_factory=list)
    """Further arguments for each container, after those of CTS."""
    image: str = ""
    """``<name>@<digest>``; empty for runtime ``host``."""
    image_folder: str = ""
    """The folder for images of a runtime without an image store of its own."""
    image_bytes: int = 100 << 30
    """The limit of that folder's size, unless the images in use need more at once."""
    plain_http: bool = False
    """Whether the image's registry uses http."""
    network: bool = True
    """Whether the container has its runtime's default network, or none."""
    cpus: int = 1
    visible_folders: list[str] | None = None
    """For runtime ``host``: what the program may read besides the system's folders and its own; None: the whole machine."""
    hidden_folders: list[str] = field(default_factory=list)
    """Folders within the visible ones that the program may not read."""
    mount_namespace: bool = False
    """For runtime ``host``: whether the program has its folders at their mount points, in a mount namespace."""
    mount_from: str = ""
    """A folder of the worker that its runtime sees as ``mount_to``; empty: both see the same."""
    mount_to: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``plan.json``."""
        return asdict(self)

    @classmethod
    def load(cls, path: str) -> WorkerPlan:
        """Read ``plan.json``."""
        with open(path, encoding="utf-8") as file:
            return cls.from_json(json.load(file))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> WorkerPlan:
        """Parse the content of ``plan.json``, ignoring fields of a newer version. Raises TypeError and KeyError."""
        values = {each.name: content[each.name] for each in fields(cls) if each.name in content}
        return cls(**{**values, "inputs": [Input(**entry) for entry in content["inputs"]]})
