"""What a worker on a node asks of the service, and how long it tries."""

from __future__ import annotations

import json

import pytest

from cts_core.worker.s3_refusals import S3Error
from cts_core.worker.service import RefusalError, RemoteGrants, Service, ServiceError
from cts_core.worker.transfer import Passing, Refused, Untrusted

NODE = "http://service.invalid/node"


class Answers:
    """Stands for Http: answers one after the other, and keeps what was asked."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str, object]] = []

    def ask(self, method, grant, body=None, *, limit=0):
        data = b"".join(map(bytes, body)) if body else b""
        assert grant.headers["authorization"] == "Bearer t"
        said = json.loads(data) if data else None
        self.asked.append((method, grant.url.removeprefix(NODE), said))
        answer = self.answers.pop(0) if self.answers else self.granted(said)
        if isinstance(answer, Exception):
            raise answer
        return {}, answer

    @staticmethod
    def granted(said) -> str:
        leave = [{"url": one["path"], "headers": {}} for one in said["requests"]]
        return json.dumps({"requests": leave})


def refused(status: int, appcode: int, message: str) -> Refused:
    return Refused(status, json.dumps({"error": {"appcode": appcode, "message": message}}))


def service(*answers: object, patience: float = 60) -> tuple[Service, Answers, list[float]]:
    http = Answers(*answers)
    pauses: list[float] = []
    made = Service(http, NODE, "t", patience=patience, pause=pauses.append)
    return made, http, pauses


def test_what_may_pass_is_tried_again():
    # A proxy's own page says nothing of us, whatever its status.
    asked, http, pauses = service(
        Passing("away"), Refused(503, ""), Refused(429, ""), Refused(404, "<html>"), "<html>", ""
    )
    asked.update("complete", {"outputs": []})
    assert len(http.asked) == 6
    assert len(pauses) == 5
    assert {what for _, what, _ in http.asked} == {"/update/complete"}


def test_pauses_grow_to_ten_minutes():
    asked, _, pauses = service(*[Passing("away")] * 30, "")
    asked.update("complete", {})
    assert pauses[0] < 0.5
    assert all(300 <= pause <= 600 for pause in pauses[-10:])


def test_a_refusal_is_told_at_once():
    asked, http, _ = service(refused(403, 20000, "The token is another container's"))
    with pytest.raises(RefusalError, match="another container's") as raised:
        asked.claim("1.0", 0, "w")
    assert raised.value.appcode == 20000
    assert len(http.asked) == 1


def test_a_certificate_that_is_not_trusted_is_told_at_once():
    asked, http, _ = service(Untrusted("self-signed"))
    with pytest.raises(ServiceError, match="self-signed"):
        asked.plan()
    assert len(http.asked) == 1


def test_patience_ends():
    asked, _, _ = service(Passing("away"), patience=0)
    with pytest.raises(ServiceError, match="away"):
        asked.plan()


def test_inputs_are_asked_for_together_and_each_leave_is_used_once():
    asked, http, _ = service()
    paths = [f"data/{n}" for n in range(150)]
    grants = RemoteGrants(asked, paths)
    assert [grants.grant("GET", path, {}, {}).url for path in paths] == paths
    assert [len(said["requests"]) for _, _, said in http.asked] == [100, 50]
    grants.grant("GET", paths[0], {}, {})
    grants.grant("PUT", "data/out/x", {}, {"content-length": "1"})
    assert len(http.asked) == 4


def test_what_the_service_refuses_is_no_fault_of_the_object_alone():
    asked, _, _ = service(refused(403, 20000, "may not PUT"))
    with pytest.raises(S3Error, match="may not PUT"):
        RemoteGrants(asked, []).grant("PUT", "data/x", {}, {})
