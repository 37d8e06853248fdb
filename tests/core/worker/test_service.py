"""What a worker on a node asks of the service, and how long it tries."""

from __future__ import annotations

import json

import pytest

from cts_core.worker.s3_refusals import S3Error
from cts_core.worker.service import RemoteGrants, Service, ServiceError
from cts_core.worker.transfer import Passing, Refused

NODE = "http://service.invalid/node"


class Answers:
    """Stands for Http: answers one after the other, and keeps what was asked."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str, object]] = []

    def ask(self, method, grant, body=None):
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


def service(*answers: object, patience: float = 60) -> tuple[Service, Answers, list[float]]:
    http, pauses = Answers(*answers), []
    made = Service(http, NODE, "t", patience=patience, pause=pauses.append)
    return made, http, pauses


def test_what_may_pass_is_tried_again():
    asked, http, pauses = service(Passing("away"), Refused(503, ""), Refused(429, ""), "")
    asked.update("complete", outputs=[])
    assert len(http.asked) == 4
    assert len(pauses) == 3
    assert {what for _, what, _ in http.asked} == {"/update/complete"}


def test_a_refusal_is_told_at_once():
    text = json.dumps({"error": {"message": "The token is another container's"}})
    asked, http, _ = service(Refused(403, text))
    with pytest.raises(ServiceError, match="another container's"):
        asked.claim("1.0", 0, "w")
    assert len(http.asked) == 1


def test_patience_ends():
    asked, _, _ = service(Passing("away"), patience=-1)
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
    asked, _, _ = service(Refused(403, "{}"))
    with pytest.raises(S3Error, match="HTTP 403"):
        RemoteGrants(asked, []).grant("PUT", "data/x", {}, {})
