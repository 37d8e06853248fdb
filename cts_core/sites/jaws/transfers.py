"""What helpers at NERSC are told to do, as ``cts_core.worker.nersc`` reads it. Pure.

A plan has presigned links in it, which are worth as much as keys: it is sent to NERSC, and never logged or shown.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import SecretStr

from cts_core.model.site import SiteName
from cts_core.object_paths import ObjectPath
from cts_core.objects.s3.presign import PresignedPost
from cts_core.objects.store import StoredObject
from cts_core.sites.jaws.layout import (
    INPUTS,
    JAWS_SITES,
    WDL,
    Attempt,
    Kind,
    Layout,
    cache_entry,
)
from cts_core.sites.jaws.results import RunOutputs, Summed
from cts_core.sites.jaws.wdl import RunFiles

ERRORS = "errors.json"
"""What JAWS tells of the containers of a run that failed, in its ``output_dir``."""
REFDATA_BYTES, REFDATA_ENTRIES, REFDATA_FREE = 10 << 40, 10_000_000, 100 << 30
"""What one unpacked item of reference data may have, and the bytes of the disk that must stay free."""

Plan = dict[str, Any]


def download(files: Mapping[StoredObject, SecretStr], cache: str, *, insecure: bool) -> Plan:
    """Return the plan that places these objects in a cache; the values are links to them."""
    entries = {
        cache_entry(cache, stored.crc64nvme or ""): _file(stored, link)
        for stored, link in files.items()
    }
    return {
        "files": [{"path": path, **entry} for path, entry in entries.items()],
        "insecure": insecure,
    }


def _file(stored: StoredObject, link: SecretStr) -> Plan:
    return {
        "name": stored.path,
        "url": link.get_secret_value(),
        "crc64nvme": stored.crc64nvme,
        "size": stored.size,
    }


def stage(
    refdata_id: str,
    stored: StoredObject,
    link: SecretStr,
    layout: Layout,
    *,
    unpack: bool,
    insecure: bool,
) -> Plan:
    """Return the plan that puts reference data into its folder, and has JAWS copy it to its other sites."""
    limits = {"bytes": REFDATA_BYTES, "entries": REFDATA_ENTRIES, "free": REFDATA_FREE}
    return {
        "files": [{"path": posixpath.basename(stored.path), **_file(stored, link)}],
        "root": layout.refdata_root,
        "refdata": layout.refdata(refdata_id),
        "unpack": unpack,
        "limits": limits,
        "change_file": layout.change_file(refdata_id),
        "insecure": insecure,
    }


def submit(job_id: str, site: SiteName, files: RunFiles, layout: Layout, *, download: int) -> Plan:
    """Return the plan that submits a run, whose tag is the job's id; ``download`` is the number of that which placed its inputs."""
    command = ["jaws", "submit", "--tag", job_id, WDL, INPUTS, JAWS_SITES[site]]
    return {
        "files": {WDL: files.wdl, INPUTS: files.inputs, **files.manifests},
        "command": command,
        "config": f"~/{layout.jaws_config}",
        "inputs": [INPUTS, files.key],
        "download": download,
    }


def checksums(outputs: RunOutputs, root: str, attempt: Attempt) -> Plan:
    """Return the plan that sums the outputs of a run, whose ``output_dir`` is ``root``.

    Of two containers with one name, both are told: each container has its own outputs.
    """
    files = [
        {"s3path": name, "respath": path}
        for container in outputs.files
        for name, path in container.items()
    ]
    return {
        "root": root,
        "files": files,
        "unstored": outputs.unstored,
        "sums": attempt.file(Kind.SUMS),
    }


def upload(
    outputs: Mapping[ObjectPath, Summed],
    forms: Sequence[PresignedPost],
    root: str,
    *,
    insecure: bool,
) -> Plan:
    """Return the plan that stores these outputs, by the paths of their objects; the forms are in the same order."""
    files = [
        {
            "name": path,
            "url": form.url,
            "fields": dict(form.fields),
            "path": posixpath.join(root, output.path),
            "crc64nvme": output.crc64nvme,
            "size": output.size,
        }
        for (path, output), form in zip(outputs.items(), forms, strict=True)
    ]
    return {"root": root, "files": files, "insecure": insecure}


def logs(folder: str, form: PresignedPost, root: str, containers: int, *, insecure: bool) -> Plan:
    """Return the plan that stores the logs of a run below a folder of objects, by a form for all that is below it."""
    prefix = form.fields["key"].removesuffix("${filename}")
    return {
        "errors_json": posixpath.join(root, ERRORS),
        "containers": containers,
        "url": form.url,
        "fields": dict(form.fields),
        "key_prefix": prefix,
        "name_prefix": folder,
        "insecure": insecure,
    }
