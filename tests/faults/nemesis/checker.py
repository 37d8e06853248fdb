"""The judge of a history: a pure function that finds each promise that was not kept."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from cts_core.states import JobState, may_follow
from tests.faults.nemesis.history import Call, Delivery, History, Record

_TERMINAL = frozenset({"complete", "error", "canceled"})
_COMES_LATER = frozenset({(429, None), (503, None), (507, None), (400, 60020)})
"""Answers by which a service says that it cannot now; a client tries again."""
_REFUSALS: dict[str, frozenset[tuple[int | None, int | None]]] = {
    "cancel": frozenset({(404, 40040)}),
    # Its failed containers: none failed, or it has not ended yet.
    "resubmit": frozenset({(400, 30001), (400, 30300)}),
    # The client's object is there already: a try before went through.
    "put": frozenset({(400, 30001)}),
}
_EXCUSES = frozenset({"full"})
"""The faults that may end a job in error: its outputs find no room."""


@dataclass(frozen=True)
class Violation:
    """A promise, and whose it was."""

    promise: str
    subject: str
    what: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.subject}: {self.what}"


def find_violations(history: History) -> list[Violation]:
    """Return every promise that the history shows broken; none if the service kept them all."""
    records = {record.job_id: record for record in history.records}
    found: list[Violation] = []
    for check in (
        _states,
        _expected_ends,
        _answers,
        _accepted,
        _keys,
        _cancels,
        _reads,
        _lists,
        _objects,
        _topic,
        _subscribers,
        _runs,
        _outputs,
    ):
        found += check(history, records)
    found += [Violation("ready after healing", server, why) for server, why in history.unready]
    found += [Violation("a server stays up", server, why) for server, why in history.deaths]
    return found


# -- jobs ----------------------------------------------------------------------------------------


def _states(history: History, records: dict[str, Record]) -> Iterator[Violation]:
    """Each job has one terminal state, which is its last, and passes the states as the contract has them."""
    for record in history.records:
        states = [step.state for step in record.steps]
        ends = [state for state in states if state in _TERMINAL]
        if len(ends) != 1 or states[-1] != ends[0]:
            yield Violation("one terminal state", record.job_id, " -> ".join(states))
        elif states[0] != "created" or not all(
            may_follow(JobState(before), JobState(after)) for before, after in pairwise(states)
        ):
            yield Violation("states in their order", record.job_id, " -> ".join(states))


def _expected_ends(history: History, records: dict[str, Record]) -> Iterator[Violation]:
    """A job ends in error if and only if its program fails, and canceled only if that was asked for."""
    asked = {call.subject for call in history.calls if call.action == "cancel"}
    lives = _lives(history)
    for record in history.records:
        expected = {"error" if record.fails else "complete"}
        if record.job_id in asked:
            expected.add("canceled")
        if any(
            fault.kind in _EXCUSES and _overlap((fault.start, fault.end), lives[record.job_id])
            for fault in history.faults
        ):
            expected.add("error")
        if record.state in _TERMINAL and record.state not in expected:
            what = f"{record.state}, not {' or '.join(sorted(expected))}: {record.error}"
            yield Violation("ends as it should", record.job_id, what)


def _lives(history: History) -> dict[str, tuple[float, float]]:
    """Return from when to when each job was alive at most, as far as its clients know."""
    begins: dict[str, float] = {}
    for call in _submissions(history):
        # A call before it, without an answer, may have stored the job.
        if call.succeeded and not call.key:
            begins[call.result[0]] = call.began
    last = {record.steps[-1].trans_id for record in history.records}
    ends: dict[str, float] = {}
    for subscriber in history.subscribers:
        for each in subscriber.deliveries:
            if each.trans_id in last:
                ends[each.job_id] = min(each.at, ends.get(each.job_id, each.at))
    return {
        record.job_id: (begins.get(record.job_id, 0.0), ends.get(record.job_id, float("inf")))
        for record in history.records
    }


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


# -- answers -------------------------------------------------------------------------------------


def _answers(history: History, records: dict[str, Record]) -> Iterator[Violation]:
    """A service that cannot answers that it cannot now; nobody gets an error of ours, or a refusal of what is right."""
    for call in history.calls:
        if call.status is None or call.succeeded:
            continue
        expected = _COMES_LATER | _REFUSALS.get(call.action, frozenset())
        if (call.status, call.appcode) not in expected:
            yield Violation("answers that clients expect", call.subject, str(call))


def _accepted(history: History, records: dict[str, Record]) -> Iterator[Violation]:
    """A job whose submission was answered with its id is in the records."""
    for job_id in sorted(
        {call.result[0] for call in _submissions(history) if call.succeeded} - set(records)
    ):
        yield Violation("an accepted job exists", job_id, "there is no record of it")


def _keys(history: History, records: dict[str, Record]) -> Iterator[Violation]:
    """An idempotency key names one job, in every answer and in the records."""
    jobs: defaultdict[str, set[str]] = defaultdict(set)
    for call in _submissions(history):
        if call.key and call.succeeded:
            jobs[call.key].add(call.result[0])
    for record in history.records:
        if record.key:
            jobs[record.key].add(record.job_id)
    for key, ids in jobs.items():
        if len(ids) > 1:
            yield Violation("a key names one job", key, f"it named {sorted(ids)}")


def _submissions(history: History) -> Iterator[Call]:
    return (call for call in history.calls if call.action in ("submit", "resubmit"))


def _cancels(history: History, records: dict[str, Record]) -> Iterator[Violation]:
    """A job whose cancel was answered with 204 is canceled; one to which it was refused had ended, or was canceling."""
    for call in history.calls:
        record = records.get(call.subject)
        if call.action != "cancel" or record is None:
            continue
        if call.succeeded and record.state != "canceled":
            yield Violation("a cancel of 204 holds", call.subject, f"{record.state}, after {call}")
        if call.status == 404:
            for read in history.calls:
                if read.action == "status" and read.subject == call.subject and read.succeeded:
                    can_be_canceled = read.result[-1] not in _TERMINAL | {"canceling"}
                    if read.began > call.ended and can_be_canceled:
                        yield Violation("a cancel is refused with reason", call.subject, str(call))


def _reads(history: History, records: dict[str, Record]) -> Iterator[Violation]:
    """What a read showed is in the record, and a read that began after another ended shows no less."""
    reads: defaultdict[str, list[Call]] = defaultdict(list)
    for call in history.calls:
        if call.action == "status" and call.succeeded:
            reads[call.subject].append(call)
    for job_id, calls in reads.items():
        states = tuple(step.state for step in records[job_id].steps) if job_id in records else ()
        for call in calls:
            if call.result != states[: len(call.result)]:
                yield Violation("what was read is never taken back", job_id, str(call))
        for earlier, later in _first_contradictions(calls):
            yield Violation("a later read shows no less", job_id, f"{later} after {earlier}")


def _first_contradictions(calls: Sequence[Call]) -> Iterator[tuple[Call, Call]]:
    """Yield each read that shows fewer transitions than one that had ended before it began."""
    for later in calls:
        before = [call for call in calls if call.ended < later.began]
        if before:
            longest = max(before, key=lambda call: len(call.result))
            if len(longest.result) > len(later.result):
                yield longest, later


def _lists(history: History, records: dict[str, Record]) -> Iterator[Violation]:
    """A list has every job that was accepted before it was asked for."""
    accepted: dict[str, float] = {}
    for call in _submissions(history):
        if call.succeeded:
            accepted[call.result[0]] = min(call.ended, accepted.get(call.result[0], call.ended))
    for call in history.calls:
        if call.action == "list" and call.succeeded:
            for job_id, at in accepted.items():
                if at < call.began and job_id not in call.result:
                    yield Violation("a list has all accepted jobs", job_id, str(call))


def _objects(history: History, records: dict[str, Record]) -> Iterator[Violation]:
    """An object whose upload was answered with 200 is there, with the bytes that were sent; clients get no other."""
    objects = dict(history.objects)
    puts = {call.subject: call for call in history.calls if call.action == "put" and call.succeeded}
    for path, put in puts.items():
        if objects.get(path) != put.result[0]:
            yield Violation(
                "an object put is kept", path, f"it has {objects.get(path)} after {put}"
            )
    for call in history.calls:
        if call.action == "get" and call.succeeded and call.result != puts[call.subject].result:
            yield Violation("an object put is read", call.subject, str(call))


# -- events --------------------------------------------------------------------------------------


def _topic(history: History, records: dict[str, Record]) -> Iterator[Violation]:
    """Each transition is on Kafka at least once, in its job's order, and marked as sent."""
    yield from _deliveries("on Kafka", history.topic, history.records)
    for record in history.records:
        unsent = [step.state for step in record.steps if not step.is_sent]
        if unsent:
            yield Violation("marked as sent", record.job_id, f"{unsent} are not")


def _subscribers(history: History, records: dict[str, Record]) -> Iterator[Violation]:
    """Each transition reaches each subscriber at least once, in its job's order; a job's own stream ends after its last."""
    for subscriber in history.subscribers:
        watched = [
            record
            for record in history.records
            if subscriber.job_id is None or record.job_id == subscriber.job_id
        ]
        yield from _deliveries(f"at subscriber {subscriber.name}", subscriber.deliveries, watched)
        if subscriber.job_id is not None and not subscriber.has_ended:
            yield Violation("a job's stream ends", subscriber.job_id, subscriber.name)


def _deliveries(
    where: str, deliveries: Iterable[Delivery], records: Iterable[Record]
) -> Iterator[Violation]:
    delivered: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for each in deliveries:
        delivered[each.job_id].setdefault(each.trans_id)
    for record in records:
        expected = {step.trans_id: step.state for step in record.steps}
        got = list(delivered[record.job_id])
        if strange := [trans_id for trans_id in got if trans_id not in expected]:
            yield Violation(f"nothing unknown {where}", record.job_id, str(strange))
        if missing := [state for trans_id, state in expected.items() if trans_id not in got]:
            yield Violation(f"each transition {where}", record.job_id, f"{missing} are missing")
        known = [trans_id for trans_id in got if trans_id in expected]
        if known != [trans_id for trans_id in expected if trans_id in got]:
            order = [expected[trans_id] for trans_id in known]
            yield Violation(f"in order {where}", record.job_id, f"came as {order}")


# -- containers ----------------------------------------------------------------------------------


def _runs(history: History, records: dict[str, Record]) -> Iterator[Violation]:
    """No container has its effects twice."""
    counts = Counter((run.job_id, run.container) for run in history.runs)
    for (job_id, container), count in counts.items():
        if count > 1 and not history.may_rerun:
            yield Violation(
                "a container runs once", job_id, f"container {container} ran {count} times"
            )
    for run in history.runs:
        if run.overlaps:
            yield Violation(
                "a container runs once at a time", run.job_id, f"container {run.container}"
            )
        if run.is_late:
            what = f"container {run.container} began after its end"
            yield Violation("no container runs after its end", run.job_id, what)
        if run.job_id not in records:
            yield Violation("only jobs run", run.job_id, f"container {run.container} has no record")


def _outputs(history: History, records: dict[str, Record]) -> Iterator[Violation]:
    """What a complete job's record says of its outputs is what is stored."""
    for record in history.records:
        if record.state == "complete" and (not record.outputs or record.outputs != record.stored):
            what = f"the record has {record.outputs}, stored are {record.stored}"
            yield Violation("outputs are stored as recorded", record.job_id, what)
