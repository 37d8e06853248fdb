"""The program that talks to HTCondor: requests come on stdin, answers go to stdout.

Usage: ``bindings.py FOLDER``, where it may put files for a moment. A process of its own, because HTCondor's bindings
keep Python to themselves while they wait for a daemon: one that is frozen would stop the event loop for as long, from
whatever thread it was asked. Request and answer are JSON after their length in four bytes. Imports nothing of CTS.
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
_NO_MORE = re.compile(r"ProcId .* but Schedd says (-\d+)")
_ONCE = frozenset({"submit"})
"""Methods that are not to be repeated when they fail."""
_NO_HISTORY = "HISTORY undefined"
"""In what a schedd answers whose configuration has no such file."""
_TOO_MANY = -4
"""HTCondor's number for a submission above ``MAX_JOBS_PER_SUBMISSION``; others are of full queues."""
_HELD, _FOR_FILES = 5, "HoldReasonCode == 16"
_TICK_SECONDS = 0.02
_SETTLED = "CTSHasFiles"
"""What we write into ads, for no other reason than that it is written."""
_TOTALS = {
    "Cpus": ("TotalSlotCpus",),
    "Memory": ("TotalSlotMemory",),
    # The first is what is free just now.
    "Disk": ("TotalSlotDisk", "DetectedDisk"),
}
"""Of a node, what it has when nothing runs there."""
_WITHIN = "WithinResourceLimits"
"""Of a node that is cut into slots, whether a job is not too large for it: since 25.12 a job itself does not say of disk."""
_POOLS_OWN = "@password"
"""How the name of those ends who log in by the pool's password."""
# HTCondor's own configuration wins over the plain variable.
if os.environ.get(_VARIABLE):
    os.environ.setdefault(f"_CONDOR_{_VARIABLE}", os.environ[_VARIABLE])

import classad2  # noqa: E402 - reads the configuration as it is imported
import htcondor2  # noqa: E402 - as above


class RefusedError(Exception):
    """HTCondor is there and will never do this."""


class FullError(Exception):
    """HTCondor will do this later, perhaps."""


class ConfigError(Exception):
    """HTCondor's configuration on this machine names no pool."""


class Pool:
    """The one pool and schedd that HTCondor's configuration names. Methods raise HTCondorException, too."""

    def __init__(self) -> None:
        self._schedd: Any = None
        self._location: Any = None

    def forget(self) -> None:
        """Look for the schedd again: it may have come back at another address."""
        self._schedd = None

    def _collector(self) -> Any:  # noqa: ANN401 - the bindings have no types
        host = htcondor2.param.get(_VARIABLE)
        if not host:
            raise ConfigError("HTCondor's configuration on this machine has no COLLECTOR_HOST")
        return htcondor2.Collector(host)

    @property
    def schedd(self) -> Any:  # noqa: ANN401 - as above
        """Where the pool's queue is."""
        if self._schedd is None:
            self._schedd = htcondor2.Schedd(self._locate())
        return self._schedd

    def _locate(self) -> Any:  # noqa: ANN401 - as above
        """Where the schedd is; where it was last, while the collector is away or does not know it yet again."""
        found = None
        try:
            found = self._collector().locate(htcondor2.DaemonType.Schedd)
        except htcondor2.HTCondorException:
            if self._location is None:
                raise
        self._location = found or self._location
        if self._location is None:
            raise htcondor2.HTCondorException("the pool's collector knows no schedd")
        return self._location

    def _name(self) -> str:
        """Who we are to the schedd."""
        return str(htcondor2.ping(self._locate(), "WRITE").get("MyRemoteUserName", ""))

    def ping(self) -> None:
        """Whether the schedd answers."""
        self.schedd.query("false", ["ClusterId"])

    def submit(
        self,
        description: dict[str, str],
        itemdata: list[dict[str, str]],
        file: str = "",
        contents: Mapping[str, str] | None = None,
    ) -> int:
        """The id of a new cluster. Raises RefusedError, FullError.

        ``file``: how the name of one more file to transfer is written in a description; ``contents``: of all such
        files by their names. HTCondor holds the cluster until it has them.
        """
        try:
            if not contents:
                return int(self._submit(description, itemdata, spool=False).cluster())
            with _folder_of(contents) as folder:
                inputs = f"{description['transfer_input_files']}, {folder}/{file}"
                with_file = {**description, "transfer_input_files": inputs}
                made = self._submit(with_file, itemdata, spool=True)
                self.schedd.spool(made)
            self._settle(int(made.cluster()))
            return int(made.cluster())
        except htcondor2.HTCondorException as e:
            said = _NO_MORE.search(str(e))
            if said and int(said[1]) == _TOO_MANY:
                raise RefusedError(
                    f"{len(itemdata)} containers are more than it takes at once (MAX_JOBS_PER_SUBMISSION)"
                ) from e
            if said:
                raise FullError(f"its queue takes no more of our jobs for now: {e}") from e
            if "Failed to create new cluster" in str(e) and self._name().endswith(_POOLS_OWN):
                raise RefusedError(
                    f"its schedd knows us as {self._name()}, and lets nobody of that name submit: log in with IDTOKENS"
                ) from e
            if "Failed to create job ad" in str(e):
                raise RefusedError(str(e)) from e
            raise

    def _settle(self, cluster: int) -> None:
        """Wait until the schedd has let go of what it held for its files, and would know so if it were killed.

        It takes note of that after it has said that it has them, and of this kind of change it keeps some KiB to
        itself; a change that somebody asks for goes to disk at once, with all before it.
        """
        ours = f"ClusterId == {cluster}"
        held = f"{ours} && JobStatus == {_HELD} && {_FOR_FILES}"
        # Whoever called waits for so long and no longer.
        while self.schedd.query(held, ["ProcId"], limit=1):
            time.sleep(_TICK_SECONDS)
        if self.schedd.query(ours, ["ProcId"], limit=1):
            self.schedd.edit(ours, _SETTLED, "true")

    def _submit(
        self, description: Mapping[str, str], itemdata: Sequence[dict[str, str]], *, spool: bool
    ) -> Any:  # noqa: ANN401 - as above
        submission = htcondor2.Submit(dict(description))
        return self.schedd.submit(submission, itemdata=iter(itemdata), spool=spool)

    def query(self, constraint: str, attributes: list[str]) -> list[list[Any]]:
        """These attributes of each ad of the queue, in order."""
        return _rows(self.schedd.query(constraint, attributes), attributes)

    def history(
        self, constraint: str, attributes: list[str], match: int, since: str | None
    ) -> list[list[Any]]:
        """The same of at most ``match`` ads that have left the queue, newest first, until one meets ``since``.

        None of them where the pool keeps no history.
        """
        return _rows(self._left(constraint, attributes, match=match, since=since), attributes)

    def _left(self, constraint: str, attributes: Sequence[str], **bounds: Any) -> list[Any]:  # noqa: ANN401 - as above
        try:
            return list(self.schedd.history(constraint, attributes, **bounds))
        except htcondor2.HTCondorException as e:
            if _NO_HISTORY in str(e):
                return []
            raise

    def act(self, action: str, constraint: str, reason: str) -> int:
        """How many ads were changed. Raises RefusedError where that is not ours to do."""
        done = self.schedd.act(htcondor2.JobAction[action], constraint, (reason, 0))
        if done["TotalPermissionDenied"]:
            raise RefusedError(
                f"the schedd does not let us {action.lower()} jobs that somebody else submitted"
            )
        return int(done["TotalSuccess"])

    def ad(self, constraint: str) -> dict[str, Any] | None:
        """One ad, whole, from the queue or else from what has left it."""
        found = self.schedd.query(constraint, limit=1)
        found = found or self._left(constraint, [], match=1)
        return {name: _value(found[0], name) for name in sorted(found[0])} if found else None

    def never_matching(self, clusters: Sequence[int]) -> dict[str, Any]:
        """Those of these clusters that no node could take were it empty, and how large the nodes are.

        None of them while no node can be seen. ``roomy``: how many nodes have cpus and memory enough for it.
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
        """The schedd, and whom it knows us as (None: nobody who may write), the nodes, and the queue.

        ``takers``: how many nodes are such that ``takes`` is true of them; the largest is of these.
        """
        where = self._locate()
        user = None
        with contextlib.suppress(htcondor2.HTCondorException):
            user = self._name()
        nodes = [_as_if_empty(ad) for ad in self._nodes()]
        takers = [node for node in nodes if classad2.ExprTree(takes).eval(node) is True]
        return {
            "schedd": str(where.get("Name")),
            "version": str(where.get("CondorVersion")).split()[1],
            "user": user,
            "is_pools_own": (user or "").endswith(_POOLS_OWN),
            "nodes": len(nodes),
            "takers": len(takers),
            "statuses": [ad["JobStatus"] for ad in self.schedd.query(ours, ["JobStatus"])],
            **_largest(takers),
        }

    def _nodes(self) -> list[Any]:
        """The nodes of the pool, without the slots that were cut from them for what runs."""
        return list(
            self._collector().query(
                htcondor2.AdType.Startd, 'SlotType =!= "Dynamic" && State =!= undefined'
            )
        )


@contextlib.contextmanager
def _folder_of(contents: Mapping[str, str]) -> Iterator[str]:
    """A folder with these files, which nobody else can read, for as long as they are handed over."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1]) as folder:
        for name, content in contents.items():
            # HTCondor gives it the same mode on the node.
            file = Path(folder, name)
            file.touch(mode=0o600)
            file.write_text(content)
        yield folder


def _as_if_empty(node: Any) -> Any:  # noqa: ANN401 - as above
    """A node with all that it ever has, and of its requirements those that its load and the hour do not change."""
    for name, totals in _TOTALS.items():
        found = [node[total] for total in totals if total in node]
        if found:
            node[name] = int(max(found))
    node["Requirements"] = node.get(_WITHIN, True)
    return node


def _has_room(node: Any, job: Any) -> bool:  # noqa: ANN401 - as above
    needs = {name: _value(job, f"Request{name}") for name in ("Cpus", "Memory")}
    return all(node.get(name, 0) >= (needed or 0) for name, needed in needs.items())


def _largest(nodes: Sequence[Any]) -> dict[str, int]:
    """The most that a node has of each: cpus, MiB of memory, KiB of disk."""
    return {
        name: max((node[name] for node in nodes if name in node), default=0)
        for name in ("Cpus", "Memory", "Disk")
    }


def _rows(ads: Sequence[Any], attributes: Sequence[str]) -> list[list[Any]]:
    return [[_value(ad, name) for name in attributes] for ad in ads]


def _value(ad: Any, name: str) -> Any:  # noqa: ANN401 - as above
    value = ad.get(name)
    if isinstance(value, classad2.ExprTree):
        # What cannot be told without a node, such as its requirements, is shown as it is written.
        evaluated = ad.eval(name)
        value = str(value) if isinstance(evaluated, classad2.Value) else evaluated
    if isinstance(value, classad2.Value):
        return None
    is_json = isinstance(value, bool | int | str | None) or (
        isinstance(value, float) and math.isfinite(value)
    )
    return value if is_json else str(value)


def _ask(pool: Pool, name: str, arguments: Mapping[str, Any]) -> Any:  # noqa: ANN401 - as above
    method: Callable[..., Any] = getattr(pool, name)
    try:
        return method(**arguments)
    except htcondor2.HTCondorException:
        if name in _ONCE:
            raise
        # A schedd that was started anew refuses whoever still speaks to the one before it.
        pool.forget()
        return method(**arguments)


def _answer(pool: Pool, request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return {"answer": _ask(pool, request["method"], request["arguments"])}
    except RefusedError as e:
        return {"error": str(e), "kind": "refused"}
    except FullError as e:
        return {"error": str(e), "kind": "full"}
    except ConfigError as e:
        return {"error": str(e), "kind": "config"}
    except Exception as e:  # noqa: BLE001 - the bindings raise whatever they like when a daemon is away
        pool.forget()
        return {"error": " ".join(str(e).split()), "kind": "unavailable"}


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer one request after the other, until there are no more."""
    pool = Pool()
    while len(head := requests.read(LENGTH.size)) == LENGTH.size:
        request = json.loads(requests.read(LENGTH.unpack(head)[0]))
        answer = json.dumps(_answer(pool, request)).encode()
        answers.write(LENGTH.pack(len(answer)) + answer)
        answers.flush()


if __name__ == "__main__":
    # Whatever the bindings print must not come between the answers.
    kept = os.dup(1)
    os.dup2(2, 1)
    serve(sys.stdin.buffer, os.fdopen(kept, "wb"))
