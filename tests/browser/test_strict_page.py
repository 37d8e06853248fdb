"""A hub user's JupyterLab under a strict Content-Security-Policy, before a service for many users with objects in S3.

The user is an admin of the service. What the page shows is gone through, and the page and all that it keeps are searched for
tokens, the secret of S3 and presigned URLs afterwards.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Page, expect

from cts_jupyter.client import CTSClient
from cts_jupyter.discovery import Connection
from tests.browser.conftest import NewContext
from tests.browser.test_panel import show
from tests.harness.browser import (
    LONG,
    SCREENSHOTS,
    LabHarness,
    NotebookPage,
    expect_state,
    open_sidebar,
    submit,
)
from tests.harness.labextension import built_labextension
from tests.harness.paths import SLEEP_THEN_WRITE
from tests.services.cts import CTSProcess
from tests.services.kbase import store_and_auth
from tests.services.s3 import ACCESS_KEY, SECRET
from tests.services.server import free_port, or_skip
from tests.services.together import ADMIN_ROLES
from tests.services.versitygw import start_versitygw
from tests.simulators.kbase_auth import KBaseAuth

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
)
"""What JupyterLab itself needs, and for widgets the scripts that anywidget makes."""
PRESIGNED = re.compile(r"X-Amz-(Signature|Credential)|AWSAccessKeyId=", re.IGNORECASE)
NOTE_VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI, sourceFile }) => {
    window.violations.push({ violatedDirective, blockedURI, sourceFile });
});
"""
UNFOLD = """shown => {
    for (const summary of shown.querySelectorAll("details:not([open]) > summary")) summary.click();
}"""
KEPT = """async () => {
    // JupyterLab itself writes the token of its server there.
    document.querySelector("#jupyter-config-data").remove();
    const kept = [document.documentElement.outerHTML, document.cookie];
    for (const field of document.querySelectorAll("input, textarea, select")) kept.push(field.value);
    for (const storage of [localStorage, sessionStorage]) kept.push(JSON.stringify({ ...storage }));
    const done = request => new Promise((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
    });
    for (const { name } of await indexedDB.databases()) {
        const database = await done(indexedDB.open(name));
        for (const store of database.objectStoreNames) {
            const values = await done(database.transaction(store).objectStore(store).getAll());
            kept.push(JSON.stringify(values));
        }
    }
    for (const name of await caches.keys()) kept.push(name);
    return kept.join("\\n");
}"""


@dataclass
class Hub:
    """A user's JupyterLab, the service behind it, and what no page may hold."""

    lab: LabHarness
    service: CTSProcess
    admins_token: str
    users_token: str

    def secrets(self) -> dict[str, str]:
        with self.lab.client() as client:
            own = client._transport._token()
        return {
            "the admin's token": self.admins_token,
            "the user's token": self.users_token,
            "the token of the Jupyter server's kernels": own,
            "the key of S3": ACCESS_KEY,
            "the secret of S3": SECRET,
        }

    def client(self, token: str) -> CTSClient:
        return CTSClient.of(Connection(self.service.url, lambda: token))


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("strict")
    with contextlib.ExitStack() as stack:
        with or_skip():
            built_labextension()
            s3 = start_versitygw(folder / "s3")
        stack.callback(s3.program.stop)
        auth = KBaseAuth()
        stack.callback(auth.stop)
        environ = {
            "CTS_PRESET": "embedded", "CTS_IDENTITY": "kbase", "CTS_OBJECTS": "s3", "CTS_SITES": "local",
            "CTS_HOME": str(folder / "home"), "CTS_ALLOWED_PATHS": "data", "CTS_LOG_DIR": "logs/container_logs",
            "CTS_LOCAL__SHARED": "true", "CTS_LOCAL__PROGRAM_FOLDERS": str(SLEEP_THEN_WRITE.parent),
            **store_and_auth(s3, auth),
        }  # fmt: skip
        service = CTSProcess(folder / "service", environ)
        stack.callback(service.stop)
        service.start()
        admins, users = auth.add("ana", *ADMIN_ROLES), auth.add("bob", *ADMIN_ROLES[1:])
        (folder / "token").write_text(admins)
        lab = LabHarness(
            folder,
            free_port(),
            environ={
                "CDM_TASK_SERVICE_URL": service.url,
                "CTS_REMOTE__TOKEN_FILE": str(folder / "token"),
            },
            policy=POLICY,
        )
        stack.callback(lab.close)
        hub = Hub(lab, service, admins, users)
        with hub.client(admins) as client:
            client.register_image("host/tool", executable=str(SLEEP_THEN_WRITE))
        s3.put({f"data/in/{n}.txt": b"genome" for n in range(2)})
        lab.start()
        yield hub


@pytest.fixture
def strict(new_context: NewContext) -> Iterator[Page]:
    """A page of its own, which notes what its policy refuses."""
    context = new_context(viewport={"width": 1300, "height": 900})
    context.add_init_script(NOTE_VIOLATIONS)
    yield context.new_page()
    context.close()


@pytest.mark.timeout(480)
@pytest.mark.usefixtures("unanswered")
def test_nothing_is_refused_and_no_secret_is_kept(hub: Hub, strict: Page):
    said: list[str] = []
    answers = []
    strict.on("console", lambda line: said.append(line.text))
    strict.on("pageerror", lambda error: said.append(error.stack or error.message))
    strict.on("requestfinished", lambda it: "/cts/" in it.url and answers.append(it))
    with hub.client(hub.users_token) as client:
        client.submit(
            {
                "image": "host/tool", "cluster": "local", "memory": 50_000_000, "runtime": "PT1M",
                "input_files": ["data/in/0.txt"], "output_dir": "data/out/bob/", "labels": {"of": "bob"},
                "params": {"args": ["work", "0", "/output_files/o.txt"]},
            }
        )  # fmt: skip
    # The output of a job, and the form as a widget.
    cells = ["%load_ext cts_jupyter", submit("strict"), show("strict-panel")]
    notebook = NotebookPage(hub.lab, strict, hub.lab.write_notebook(cells))
    sidebar = open_sidebar(hub.lab, strict)
    expect(sidebar.locator(".cts-stream")).to_have_text("live", timeout=LONG)
    notebook.show()
    notebook.run_all()
    expect_state(notebook.card(), "Done")
    form = strict.locator(".cts-widget").get_by_role("form", name="New job")
    expect(form.locator(".cts-check")).to_contain_text("Ready to submit", timeout=LONG)
    form.get_by_role("button", name="Submit 1 container").click()
    expect_state(strict.locator(".cts-widget .cts-card"), "Done")
    notebook.save()
    # The sidebar, of everybody's jobs as well, of which the admin opens one.
    rows = sidebar.locator(".cts-option")
    expect(rows).to_have_count(2, timeout=LONG)
    sidebar.get_by_label("Everybody's jobs").check()
    expect(rows).to_have_count(3, timeout=LONG)
    expect(rows.filter(has_text="bob · ")).to_contain_text("of=bob")
    strict.screenshot(path=SCREENSHOTS / "everybodys.png")
    rows.filter(has_text="of=bob").click()
    expect_state(strict.locator(".cts-view .cts-card"), "Done")
    sidebar.get_by_label("Everybody's jobs").uncheck()
    expect(rows).to_have_count(2, timeout=LONG)
    # The admin's own job with all that can be unfolded, and the form.
    rows.first.click()
    view = strict.locator(".cts-view").last
    expect_state(view.locator(".cts-card"), "Done")
    view.evaluate(UNFOLD)
    expect(view.locator(".cts-log")).to_contain_text("has begun", timeout=LONG)
    strict.evaluate("window.jupyterapp.commands.execute('cts:new-job').then(() => null)")
    strict.screenshot(path=SCREENSHOTS / "strict.png")

    violations = strict.evaluate("window.violations")
    assert [it for it in violations if "cts-jupyter" in it["sourceFile"]] == []
    assert {it["blockedURI"] for it in violations} <= {"inline"}, (
        "the script by which JupyterLab hides its token"
    )
    bodies = [answer.response().text() for answer in answers if "/events" not in answer.url]
    assert len(bodies) > 10
    places = {
        "page": strict.evaluate(KEPT),
        "console": "\n".join(said),
        "notebook": json.dumps(notebook.saved()),
        "answers": "\n".join(bodies),
        "addresses": "\n".join(answer.url for answer in answers),
    }
    assert "data/out/strict" in places["page"]
    assert "data/out/strict" in places["answers"]
    for place, text in places.items():
        found = [name for name, secret in hub.secrets().items() if secret in text]
        assert found == [], f"in the {place}"
        assert PRESIGNED.search(text) is None, place
