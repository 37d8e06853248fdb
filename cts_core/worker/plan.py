"""What a worker is told: the JSON in ``plan.json``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Optional


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
    argv: List[str]
    environment: Dict[str, str]
    program_file: str
    """The file whose sha256 is the image's digest."""
    digest: str
    inputs: List[Input]
    input_mount: str
    output_mount: str
    objects_root: str
    output_dir: str
    log_paths: Dict[str, str]
    """The object for each of ``stdout`` and ``stderr``."""
    memory: int
    runtime: float
    stop_grace: float
    log_limit: int
    manifest_name: Optional[str] = None
    manifest_text: str = ""

    def to_json(self) -> Dict[str, Any]:
        """As it is written to ``plan.json``."""
        return asdict(self)

    @classmethod
    def load(cls, path: str) -> WorkerPlan:
        """As it was written to ``plan.json``."""
        with open(path, encoding="utf-8") as file:
            fields = json.load(file)
        fields["inputs"] = [Input(**entry) for entry in fields["inputs"]]
        return cls(**fields)
