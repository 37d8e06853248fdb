"""A service of the deployed kind, which has no events, no file listings, no check and no containers.

It is the real one behind a small proxy that answers 404 to what deployed services do not have.
"""

from __future__ import annotations

import http.client
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

pytestmark = pytest.mark.slow

MISSING = ("/events", "/files", "/jobs/check", "/jobs/counts", "/jobs/last_look", "/openapi.json")
UNKNOWN = ("/containers", "/resubmit", "/outputs", "/why", "/methods")
KNOWN = {"cluster", "state", "after", "before", "limit"}
"""Parameters of a listing; deployed services silently ignore all others."""
ASKED = "--memory 50MB --runtime 1m"
NOT_FOUND = json.dumps(
    {"error": {"httpcode": 404, "httpstatus": "Not Found", "appcode": 40000, "apperror": "Not Found",
               "message": "Not Found", "time": "2026-01-01T00:00:00Z", "request_id": "x"}}
).encode()  # fmt: skip


@pytest.fixture
def deployed(service, inputs, monkeypatch):
    """Make the kernel use such a service."""
    real = urlsplit(service.file.url)

    class Proxy(BaseHTTPRequestHandler):
        def _forward(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = self.path.removeprefix("/old")
            bare, _, query = path.partition("?")
            if path.startswith(MISSING) or bare.endswith(UNKNOWN):
                self._answer(404, NOT_FOUND)
                return
            known = [(n, v) for n, v in parse_qsl(query) if bare != "/jobs" or n in KNOWN]
            path = f"{bare}?{urlencode(known)}"
            if self.command == "POST" and bare == "/jobs":
                assert "labels" not in json.loads(body)
            connection = http.client.HTTPConnection(real.hostname, real.port)
            kept = {
                n: v
                for n, v in self.headers.items()
                if n.lower() not in ("host", "accept-encoding")
            }
            connection.request(self.command, real.path + path, body, kept)
            answer = connection.getresponse()
            self._answer(answer.status, answer.read())
            connection.close()

        def _answer(self, status, body):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = _forward  # noqa: N815 - the library's names

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("CDM_TASK_SERVICE_URL", f"http://127.0.0.1:{server.server_port}/old")
    monkeypatch.setenv("KBASE_AUTH_TOKEN", service.file.token)
    yield
    server.shutdown()
    thread.join()
    server.server_close()


def test_job_at_a_deployed_service(shell, inputs, place, deployed):
    ran = shell.run(
        f"%cts submit host/tool -i {inputs}a.txt --output-dir {place}out/ {ASKED} -- fail /output_files/o"
    )
    assert "does not list files" in ran.out
    job = ran.value
    assert job.wait(60).state == "error"
    assert "Failed" in repr(shell("%cts ls"))
    said = shell(f"%cts why {job.id}")
    assert "It failed" in said
    for command in said.splitlines()[-1].partition(": ")[2].split(", "):
        assert "--failed" not in command
        assert shell.run(command).error is None, command
    assert "is older than this" in shell.refusal(f"%cts methods {job.id}")
    assert shell(f"%cts logs {job.id} -c failed --err").startswith("err of ")
    assert "does not say which containers" in shell.refusal(f"%cts resubmit {job.id} --failed")
    said = shell.refusal(
        f"%cts check host/tool -i {inputs}a.txt --output-dir {place}out/ {ASKED} -- ok /output_files/o"
    )
    assert "nothing was submitted" in said


def test_fallbacks_at_a_deployed_service(shell, inputs, place, deployed):
    line = f"%cts submit host/tool -i {inputs}a.txt --output-dir {place}out/ {ASKED}"
    shell("%cts ls --new")
    job = shell(f"{line} -- ok /output_files/o").wait(60)
    assert [output.file for output in job.outputs] == [f"{place}out/o"]
    assert [output.job_id for output in job.all_outputs()] == [job.id]
    assert [found.id for found in shell(f"%cts ls {place}OUT --image TOOL")] == [job.id]
    assert len(shell(f"%cts ls {place} --image host/other")) == 0
    assert [found.id for found in shell("%cts ls --new")] == [job.id]
    assert len(shell("%cts ls --new")) == 0
    assert shell("%cts status -").id == job.id
    assert shell(f"%cts status {job.id[:13]}").id == job.id
    assert "does not count jobs" in shell.refusal("%cts ls --counts")
    ran = shell.run(f"%cts resubmit {job.id}")
    assert "does not know whose resubmission" in ran.out
    assert ran.value.details.job_input.output_dir == f"{place}out-2/"
    assert ran.value.wait(60).state == "complete"
    with pytest.warns(UserWarning, match="does not know whose resubmission"):
        job.resubmit(output_dir=f"{place}third/").wait(60)
