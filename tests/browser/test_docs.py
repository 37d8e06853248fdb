"""The API docs page of a real server, below a base URL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from cts_jupyter.server.http.openapi import describe
from cts_jupyter.server.routes.table import ROUTES
from tests.harness.browser import LAB_TOKEN, LabHarness
from tests.harness.console import Faults
from tests.services.server import free_port

TOKEN = "the-services-own-token"
BASE = "/user/a%40b"
OPERATIONS = sum(len(methods) for methods in describe(ROUTES)["paths"].values())
SCREENSHOTS = Path(os.environ.get("TESTS_SCREENSHOTS", "test-results/card"))
START_SECONDS = 120
LONG = 60_000
"""Milliseconds for steps that take long on a busy machine."""
HOSTILE = "<img src=x onerror=\"window.hacked = 'by markup'\"></script><script>window.hacked = 'by script'</script>"


@pytest.fixture(scope="module")
def root(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of ``jupyter cts``, below a base URL that contains an escape."""
    folder = tmp_path_factory.mktemp("docs")
    port = free_port()
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("CTS_", "CDM_", "JPY_"))}
    for name in ("RUNTIME", "CONFIG", "DATA"):
        environ[f"JUPYTER_{name}_DIR"] = str(folder / name.lower())
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "jupyter", "cts", f"--port={port}", "--allow-root",
                f"--base-url={BASE}/", f"--home={folder / 'home'}", "--owner=ana", "--preset=embedded",
            ],
            env={**environ, "JUPYTER_TOKEN": TOKEN}, stdout=log, stderr=log, cwd=folder,
        )  # fmt: skip
    root = f"http://127.0.0.1:{port}{BASE}/cts"
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(root):
            assert process.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < deadline, (folder / "server.log").read_text()
            time.sleep(0.1)
        yield root
    finally:
        process.kill()
        process.wait()


def _answers(root: str) -> bool:
    try:
        return httpx.get(f"{root}/health").status_code == 200
    except httpx.ConnectError:
        return False


@dataclass
class Docs:
    """The page, and a record of its requests and violations."""

    page: Page
    root: str
    asked: list[str]
    refused: list[str]
    """Violations of the content security policy."""

    def open(self, path: str = "/docs") -> None:
        self.page.goto(self.root + path)
        expect(self.page.locator("main")).not_to_have_attribute("aria-busy", "true")

    def operation(self, name: str) -> Any:
        return self.page.locator(f"#{name}")

    def unfold(self, name: str) -> Any:
        operation = self.operation(name)
        operation.locator("> summary").click()
        expect(operation.locator("form")).to_be_visible()
        return operation

    def shot(self, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png", animations="disabled")


@pytest.fixture
def docs(own_page: None, page: Page, root: str) -> Docs:
    expect.set_options(timeout=LONG)
    docs = Docs(page, root, [], [])
    page.on("request", lambda request: docs.asked.append(request.url))
    page.on("console", lambda said: docs.refused.append(said.text))
    page.add_init_script(
        "addEventListener('securitypolicyviolation', (e) => console.error('refused', e.violatedDirective))"
    )
    return docs


@pytest.mark.parametrize("path", ["/docs", "/docs/", "//docs", "//docs//"])
def test_page_requests_only_the_description(docs: Docs, path: str) -> None:
    docs.open(path)
    expect(docs.page.locator("details.operation")).to_have_count(OPERATIONS)
    expect(docs.page.get_by_role("link", name="openapi.json")).to_have_attribute(
        "href", docs.page.evaluate("new URL(document.querySelector('#description').href).href")
    )
    (page, description) = docs.asked
    assert page == docs.root + path
    assert httpx.get(description).json()["openapi"].startswith("3.1")
    assert docs.refused == []


def test_find(docs: Docs) -> None:
    docs.open()
    docs.page.get_by_label("Find").fill("INPUT_ROOTS  check_job")
    expect(docs.page.locator("details.operation:visible")).to_have_count(1)
    expect(docs.page.locator("h2:visible")).to_have_text(["jobs"])
    docs.page.get_by_label("Find").fill("no such thing")
    expect(docs.page.get_by_text("Nothing here is called so.")).to_be_visible()
    docs.page.get_by_label("Find").fill("")
    expect(docs.page.locator("details.operation:visible")).to_have_count(OPERATIONS)


def test_fields_show_their_constraints(docs: Docs) -> None:
    docs.open("/docs#submit_job")
    submit = docs.operation("submit_job")
    fields = submit.locator("ul.fields")
    cpus = fields.locator("li", has=docs.page.locator("code.name:text-is('cpus')"))
    expect(cpus).to_have_text("cpus integer 1 to 256; default 1")
    cluster = fields.locator("li", has=docs.page.locator("code.name:text-is('cluster')"))
    expect(cluster).to_contain_text('required "perlmutter-jaws"')
    # Nested objects to any depth.
    params = fields.locator("li", has=docs.page.locator("code.name:text-is('params')"))
    params.locator("> details > summary").click()
    args = params.locator("li", has=docs.page.locator("code.name:text-is('args')")).first
    args.locator("> details > summary").click()
    expect(args.locator("code.name:text-is('input_files_format')").first).to_be_visible()
    docs.shot("docs-submit")
    body = json.loads(submit.get_by_label("body").input_value())
    assert set(body) == {"cluster", "image", "params", "output_dir", "input_files"}


def test_roles_are_named(docs: Docs) -> None:
    docs.open()
    for name, who in (("list_jobs", "token"), ("admin_list_jobs", "CTS admin")):
        expect(docs.operation(name).locator(".who")).to_have_text(who)
    expect(docs.operation("get_root").locator(".who")).to_have_count(0)


@pytest.mark.usefixtures("unanswered")
def test_requests_from_the_page(docs: Docs) -> None:
    docs.open()
    whoami = docs.unfold("get_whoami")
    whoami.get_by_role("button", name="Send").click()
    expect(whoami.get_by_role("status")).to_have_text("401 Unauthorized")
    expect(whoami.locator(".answer")).to_contain_text('"appcode": 10010')
    docs.page.get_by_label("Token for requests").fill(TOKEN)
    whoami.get_by_role("button", name="Send").click()
    expect(whoami.get_by_role("status")).to_have_text("200 OK")
    expect(whoami.locator(".answer")).to_contain_text('"user": "ana"')
    command = whoami.locator(".command")
    assert TOKEN not in (command.text_content() or "")
    expect(command).to_contain_text(f"{docs.root}/whoami'")

    listing = docs.unfold("list_jobs")
    listing.get_by_label("limit").fill("many")
    listing.get_by_role("button", name="Send").click()
    expect(listing.get_by_role("status")).to_have_text("400 Bad Request")
    expect(listing.locator(".answer")).to_contain_text("request_validation_detail")

    check = docs.unfold("check_job")
    check.get_by_label("body").fill('{"cluster": "local"}')
    check.get_by_role("button", name="Send").click()
    expect(check.get_by_role("status")).to_have_text("400 Bad Request")
    expect(check.locator(".answer")).to_contain_text('"output_dir"')

    image = docs.unfold("get_image")
    image.get_by_label("image_id").fill("ghcr.io/it's/x:1")
    image.get_by_role("button", name="Send").click()
    expect(image.get_by_role("status")).to_have_text("400 Bad Request")
    expect(image.locator(".answer")).to_contain_text("Illegal character in image name")
    docs.shot("docs-requests")
    assert not [said for said in docs.refused if "refused" in said]


def test_stream_is_shown_as_it_arrives_and_stopped(docs: Docs) -> None:
    docs.open()
    docs.page.get_by_label("Token for requests").fill(TOKEN)
    events = docs.unfold("get_events")
    events.get_by_role("button", name="Send").click()
    expect(events.locator(".answer")).to_contain_text("event: begin")
    events.get_by_role("button", name="Stop").click()
    expect(events.get_by_role("button", name="Stop")).to_be_hidden()


def test_description_is_escaped(docs: Docs) -> None:
    def poison(value: Any) -> Any:
        match value:
            case dict():
                return {
                    k: v if k in ("$ref", "in", "type", "schema") else poison(v)
                    for k, v in value.items()
                }
            case list():
                return [poison(item) for item in value]
            case str():
                return f"{value}{HOSTILE}"
        return value

    description = describe(ROUTES)
    paths = {
        f"{path}{HOSTILE}": {m: poison(o) for m, o in methods.items()}
        for path, methods in description["paths"].items()
    }
    schemas = {
        name: poison(schema) for name, schema in description["components"]["schemas"].items()
    }
    content = {"info": {"version": HOSTILE}, "paths": paths, "components": {"schemas": schemas}}

    def answer(route: Route) -> None:
        route.fulfill(body=json.dumps(content), content_type="application/json")

    docs.page.route("**/openapi.json", answer)
    docs.open()
    expect(docs.page.locator("details.operation")).to_have_count(OPERATIONS)
    for summary in docs.page.locator("details.operation > summary").all():
        summary.click()
    expect(docs.page.locator(".operation form")).to_have_count(OPERATIONS)
    assert "onerror=" in (docs.page.locator("main").text_content() or "")
    assert docs.page.locator("img, iframe, main script").count() == 0
    assert docs.page.evaluate("window.hacked") is None


def test_no_foreign_script_runs(docs: Docs, faults: Faults) -> None:
    docs.open()
    inserted = """(source) => new Promise((resolve) => {
        addEventListener('securitypolicyviolation', (e) => resolve(e.effectiveDirective), {once: true});
        const script = document.createElement('script');
        try {
            if (source) script.src = source;
            else script.append("window.hacked = 'inline'");
            document.body.append(script);
        } catch (error) {
            resolve(error.name);
        }
        setTimeout(() => resolve('nothing'), 30000);
    })"""
    for source in (None, f"{docs.root}/static/card.js"):
        assert docs.page.evaluate(inserted, source) != "nothing"
    assert docs.page.evaluate("window.hacked") is None
    with pytest.raises(Exception, match="TrustedHTML"):
        docs.page.evaluate("document.body.innerHTML = '<p>'")
    styled = "(() => { const s = document.createElement('style'); s.append('body { display: none }'); document.head.append(s); })()"
    docs.page.evaluate(styled)
    expect(docs.page.locator("h1")).to_be_visible()
    # Of each, Chromium says that it is refused.
    faults.begin()


@pytest.mark.usefixtures("unanswered")
def test_unavailable_service_shows_the_reason(docs: Docs) -> None:
    envelope = {"error": {"message": "CTS is still starting: try again in a moment"}}
    docs.page.route("**/openapi.json", lambda route: route.fulfill(status=503, json=envelope))
    docs.open()
    expect(docs.page.locator("main")).to_have_text(
        "The description of the API cannot be read: CTS is still starting: try again in a moment"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(docs: Docs, scheme: Any) -> None:
    docs.page.emulate_media(color_scheme=scheme)
    docs.open("/docs#admin_list_jobs")
    lightness = """(name) => {
        const [r, g, b] = getComputedStyle(document.body)[name].match(/[\\d.]+/g).map(Number);
        return (r + g + b) / 3;
    }"""
    text, back = (docs.page.evaluate(lightness, name) for name in ("color", "backgroundColor"))
    assert (text < 60 and back > 200) if scheme == "light" else (text > 200 and back < 60)
    docs.shot(f"docs-{scheme}")


def test_narrow(docs: Docs) -> None:
    docs.page.set_viewport_size({"width": 390, "height": 800})
    docs.open("/docs#submit_job")
    assert docs.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    docs.shot("docs-narrow")


@pytest.mark.usefixtures("unanswered")
def test_jupyter_login_suffices(page: Page, lab: LabHarness) -> None:
    expect.set_options(timeout=LONG)
    page.goto(f"{lab.url}/lab?token={LAB_TOKEN}")
    page.goto(f"{lab.url}/cts/docs#check_job")
    check = page.locator("#check_job")
    check.get_by_role("button", name="Send").click()
    # The request passed the login and the XSRF check; it is refused for its content.
    expect(check.get_by_role("status")).to_have_text("400 Bad Request")
    expect(check.locator(".answer")).to_contain_text('"appcode": 30010')
