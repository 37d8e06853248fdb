"""The program that calls HTCondor's bindings: it reads requests from stdin and writes responses to stdout.

Usage: ``bindings_server.py FOLDER``, where it may create temporary files. It is a process of its own because HTCondor's
bindings hold Python's global interpreter lock while they wait for a daemon: a frozen daemon would stop the event loop
for as long, whichever thread calls it. Requests and responses are JSON, each after its length in four bytes. Imports
nothing of CTS.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

LENGTH = struct.Struct(">I")
_VARIABLE = "COLLECTOR_HOST"
_SUBMIT_REFUSED = re.compile(r"ProcId .* but Schedd says (-\d+)")
_NOT_REPEATABLE = frozenset({"submit"})
"""Methods that are not called again when they fail."""
_NO_HISTORY = "HISTORY undefined"
"""Part of the error of a schedd that is configured without a history file."""
_TOO_MANY_JOBS = -4
"""HTCondor's error code for a submission above ``MAX_JOBS_PER_SUBMISSION``; other codes are for full queues."""
_HELD, _AWAITS_FILES = 5, "HoldReasonCode == 16"
_POLL_SECONDS = 0.02
_FILES_ATTRIBUTE = "CTSHasFiles"
"""An attribute that is set only to make the schedd write its log of changes to disk."""
_TOTALS = {
    "Cpus": ("TotalSlotCpus",),
    "Memory": ("TotalSlotMemory",),
    # TotalSlotDisk is what is free at the moment.
    "Disk": ("TotalSlotDisk", "DetectedDisk"),
}
"""The attributes of a node that say what it has when nothing runs there."""
_IS_NODE = 'SlotType =!= "Dynamic"'
"""Matches the ads of nodes, and not those of the dynamic slots for running jobs."""
_WITHIN = "WithinResourceLimits"
"""An attribute of a partitionable node: whether a job fits it. Since HTCondor 25.12 a job's requirements leave out disk."""
_SHARED_LOGIN_SUFFIX = "@password"
"""The end of the user name of a client that authenticates by the pool's password."""
# A variable of HTCondor's own form takes precedence over the plain one.
if os.environ.get(_VARIABLE):
    os.environ.setdefault(f"_CONDOR_{_VARIABLE}", os.environ[_VARIABLE])

import classad2  # noqa: E402 - reads the configuration as it is imported
import htcondor2  # noqa: E402 - as above


class RefusedError(Exception):
    """HTCondor refuses a request, and always will."""


class FullError(Exception):
    """HTCondor cannot do this now, but may later."""


class ConfigError(Exception):
    """HTCondor's configuration on this machine names no pool."""


class PoolConnection:
    """The pool and schedd that HTCondor's configuration names. All methods may raise HTCondorException, too."""

    def __init__(self) -> None:
        self._schedd: Any = None
        self._location: Any = None

    def reset(self) -> None:
        """Locate the schedd anew at the next use: it may have been restarted at another address."""
        self._schedd = None

    def _collector(self) -> Any:  # noqa: ANN401 - the bindings have no types
        host = htcondor2.param.get(_VARIABLE)
        if not host:
            raise ConfigError("HTCondor's configuration on this machine has no COLLECTOR_HOST")
        return htcondor2.Collector(host)

    @property
    def schedd(self) -> Any:  # noqa: ANN401 - as above
        """The schedd, which has the pool's queue."""
        if self._schedd is None:
            self._schedd = htcondor2.Schedd(self._locate())
        return self._schedd

    def _locate(self) -> Any:  # noqa: ANN401 - as above
        """Return the schedd's location; the last one while the collector is down or does not know the schedd (yet)."""
        location = None
        try:
            location = self._collector().locate(htcondor2.DaemonType.Schedd)
        except htcondor2.HTCondorException:
            if self._location is None:
                raise
        self._location = location or self._location
        if self._location is None:
            raise htcondor2.HTCondorException("the pool's collector knows no schedd")
        return self._location

    def _user(self) -> str:
        """Return the user as which the schedd knows this service."""
        return str(htcondor2.ping(self._locate(), "WRITE").get("MyRemoteUserName", ""))

    def ping(self) -> None:
        """Raise HTCondorException unless the schedd answers."""
        self.schedd.query("false", ["ClusterId"])

    def submit(
        self,
        description: dict[str, str],
        itemdata: list[dict[str, str]],
        file: str = "",
        contents: Mapping[str, str] | None = None,
    ) -> int:
        """Submit a cluster of jobs, and return its id. Raises RefusedError, FullError.

        ``file`` is the name, as a submit description writes it, of a further file that each job transfers; ``contents``
        has the contents of all these files by their names. HTCondor holds the cluster until they are spooled.
        """
        try:
            if not contents:
                return int(self._submit(description, itemdata, spool=False).cluster())
            with _folder_of(contents) as folder:
                inputs = f"{description['transfer_input_files']}, {folder}/{file}"
                with_file = {**description, "transfer_input_files": inputs}
                submitted = self._submit(with_file, itemdata, spool=True)
                self.schedd.spool(submitted)
            self._wait_for_files(int(submitted.cluster()))
            return int(submitted.cluster())
        except htcondor2.HTCondorException as e:
            refusal = _SUBMIT_REFUSED.search(str(e))
            if refusal and int(refusal[1]) == _TOO_MANY_JOBS:
                raise RefusedError(
                    f"{len(itemdata)} containers are more than it takes at once (MAX_JOBS_PER_SUBMISSION)"
                ) from e
            if refusal:
                raise FullError(f"its queue takes no more of our jobs for now: {e}") from e
            if "Failed to create new cluster" in str(e) and self._user().endswith(
                _SHARED_LOGIN_SUFFIX
            ):
                raise RefusedError(
                    f"its schedd knows us as {self._user()}, and lets nobody of that name submit: log in with IDTOKENS"
                ) from e
            if "Failed to create job ad" in str(e):
                raise RefusedError(str(e)) from e
            raise

    def _wait_for_files(self, cluster: int) -> None:
        """Wait until the schedd has released a cluster that it held for its files, and has written that to disk.

        The schedd releases it only after it has confirmed the files, and buffers this kind of change in memory, so
        that it would be lost if the schedd were killed. A change that a client requests is written at once, with all
        changes before it.
        """
        ours = f"ClusterId == {cluster}"
        held = f"{ours} && JobStatus == {_HELD} && {_AWAITS_FILES}"
        # The client's timeout bounds this loop.
        while self.schedd.query(held, ["ProcId"], limit=1):
            time.sleep(_POLL_SECONDS)
        if self.schedd.query(ours, ["ProcId"], limit=1):
            self.schedd.edit(ours, _FILES_ATTRIBUTE, "true")

    def _submit(
        self, description: Mapping[str, str], itemdata: Sequence[dict[str, str]], *, spool: bool
    ) -> Any:  # noqa: ANN401 - as above
        submission = htcondor2.Submit(dict(description))
        return self.schedd.submit(submission, itemdata=iter(itemdata), spool=spool)

    def query(self, constraint: str, attributes: list[str]) -> list[list[Any]]:
        """Return these attributes, in order, of each matching ad in the queue."""
        return _rows(self.schedd.query(constraint, attributes), attributes)

    def history(
        self, constraint: str, attributes: list[str], match: int, since: str | None
    ) -> list[list[Any]]:
        """Return these attributes of at most ``match`` ads in the history, newest first, up to one that meets ``since``.

        Empty if the pool keeps no history.
        """
        return _rows(
            self._read_history(constraint, attributes, match=match, since=since), attributes
        )

    def _read_history(self, constraint: str, attributes: Sequence[str], **bounds: Any) -> list[Any]:  # noqa: ANN401 - as above
        try:
            return list(self.schedd.history(constraint, attributes, **bounds))
        except htcondor2.HTCondorException as e:
            if _NO_HISTORY in str(e):
                return []
            raise

    def act(self, action: str, constraint: str, reason: str) -> int:
        """Apply an action; return how many ads were changed. Raises RefusedError for jobs of another user."""
        result = self.schedd.act(htcondor2.JobAction[action], constraint, (reason, 0))
        if result["TotalPermissionDenied"]:
            raise RefusedError(
                f"the schedd does not let us {action.lower()} jobs that somebody else submitted"
            )
        return int(result["TotalSuccess"])

    def ad(self, constraint: str) -> dict[str, Any] | None:
        """Return one ad with all its attributes, from the queue or else from the history; None if there is none."""
        ads = self.schedd.query(constraint, limit=1)
        ads = ads or self._read_history(constraint, [], match=1)
        return {name: _value(ads[0], name) for name in sorted(ads[0])} if ads else None

    def never_matching(self, clusters: Sequence[int]) -> dict[str, Any]:
        """Return the clusters that no node could run even if it were empty (``misfits``), and how large the nodes are.

        There are no misfits while no node can be seen. ``roomy`` is the number of nodes with enough cpus and memory.
        """
        nodes = [_as_if_empty(ad) for ad in self._nodes()]
        jobs = [ad for i in clusters for ad in self.schedd.query(f"ClusterId == {i}", limit=1)]
        misfits = [
            {
                "cluster": int(job["ClusterId"]),
                "roomy": sum(_has_room(node, job) for node in nodes),
                "disk": _value(job, "RequestDisk"),
                "requirements": _value(job, "Requirements"),
            }
            for job in jobs
            if nodes and not any(node.symmetricMatch(job) for node in nodes)
        ]
        return {"misfits": misfits, "nodes": len(nodes), **_largest(nodes)}

    def survey(self, ours: str, takes: str) -> dict[str, Any]:
        """Return facts about the schedd, the nodes and the queue.

        ``user`` is the user as which the schedd knows this service, or None if that may not write. ``takers`` is the
        number of nodes that match the constraint ``takes``; the largest sizes are those of these nodes.
        """
        location = self._locate()
        user = None
        with contextlib.suppress(htcondor2.HTCondorException):
            user = self._user()
        nodes = [_as_if_empty(ad) for ad in self._nodes()]
        takers = [node for node in nodes if classad2.ExprTree(takes).eval(node) is True]
        return {
            "schedd": str(location.get("Name")),
            "version": str(location.get("CondorVersion")).split()[1],
            "user": user,
            "is_pools_own": (user or "").endswith(_SHARED_LOGIN_SUFFIX),
            "nodes": len(nodes),
            "takers": len(takers),
            "statuses": [ad["JobStatus"] for ad in self.schedd.query(ours, ["JobStatus"])],
            **_largest(takers),
        }

    def free_cpus(self, takes: str) -> int:
        """Return the cpus of nodes that match the constraint ``takes`` which no job has."""
        free = f'{_IS_NODE} && State == "Unclaimed" && ({takes})'
        ads = self._collector().query(htcondor2.AdType.Startd, free, ["Cpus"])
        return sum(int(ad.get("Cpus", 0)) for ad in ads)

    def _nodes(self) -> list[Any]:
        """Return the ads of the pool's nodes, without the dynamic slots for running jobs."""
        return list(
            self._collector().query(htcondor2.AdType.Startd, f"{_IS_NODE} && State =!= undefined")
        )


@contextlib.contextmanager
def _folder_of(contents: Mapping[str, str]) -> Iterator[str]:
    """Create a temporary folder with these files, which no other user can read."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1]) as folder:
        for name, content in contents.items():
            # HTCondor gives the file the same mode on the node.
            file = Path(folder, name)
            file.touch(mode=0o600)
            file.write_text(content)
        yield folder


def _as_if_empty(node: Any) -> Any:  # noqa: ANN401 - as above
    """Return the ad of a node as if nothing ran there, without requirements that depend on its load or the time."""
    for name, totals in _TOTALS.items():
        values = [node[total] for total in totals if total in node]
        if values:
            node[name] = int(max(values))
    node["Requirements"] = node.get(_WITHIN, True)
    return node


def _has_room(node: Any, job: Any) -> bool:  # noqa: ANN401 - as above
    needs = {name: _value(job, f"Request{name}") for name in ("Cpus", "Memory")}
    return all(node.get(name, 0) >= (needed or 0) for name, needed in needs.items())


def _largest(nodes: Sequence[Any]) -> dict[str, int]:
    """Return the most cpus, MiB of memory and KiB of disk that any node has."""
    return {
        name: max((node[name] for node in nodes if name in node), default=0)
        for name in ("Cpus", "Memory", "Disk")
    }


def _rows(ads: Sequence[Any], attributes: Sequence[str]) -> list[list[Any]]:
    return [[_value(ad, name) for name in attributes] for ad in ads]


def _value(ad: Any, name: str) -> Any:  # noqa: ANN401 - as above
    value = ad.get(name)
    if isinstance(value, classad2.ExprTree):
        # What cannot be evaluated without a node, such as the requirements, is returned as text.
        evaluated = ad.eval(name)
        value = str(value) if isinstance(evaluated, classad2.Value) else evaluated
    if isinstance(value, classad2.Value):
        return None
    is_json = isinstance(value, bool | int | str | None) or (
        isinstance(value, float) and math.isfinite(value)
    )
    return value if is_json else str(value)


def _call(pool: PoolConnection, name: str, arguments: Mapping[str, Any]) -> Any:  # noqa: ANN401 - as above
    method: Callable[..., Any] = getattr(pool, name)
    try:
        return method(**arguments)
    except htcondor2.HTCondorException:
        if name in _NOT_REPEATABLE:
            raise
        # A restarted schedd refuses clients that are still connected to the previous process.
        pool.reset()
        return method(**arguments)


def _respond(pool: PoolConnection, request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return {"answer": _call(pool, request["method"], request["arguments"])}
    except RefusedError as e:
        return {"error": str(e), "kind": "refused"}
    except FullError as e:
        return {"error": str(e), "kind": "full"}
    except ConfigError as e:
        return {"error": str(e), "kind": "config"}
    except Exception as e:  # noqa: BLE001 - the bindings raise various exceptions when a daemon is down
        pool.reset()
        return {"error": " ".join(str(e).split()), "kind": "unavailable"}


def serve(requests: BinaryIO, responses: BinaryIO) -> None:
    """Respond to one request after the other, until the end of input."""
    pool = PoolConnection()
    while len(head := requests.read(LENGTH.size)) == LENGTH.size:
        request = json.loads(requests.read(LENGTH.unpack(head)[0]))
        response = json.dumps(_respond(pool, request)).encode()
        responses.write(LENGTH.pack(len(response)) + response)
        responses.flush()


if __name__ == "__main__":
    # What the bindings print must not get into the responses.
    stdout = os.dup(1)
    os.dup2(2, 1)
    serve(sys.stdin.buffer, os.fdopen(stdout, "wb"))
