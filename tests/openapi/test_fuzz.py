"""The service conforms to its OpenAPI for generated requests; ``fuzz.py`` runs more of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cts_core.version import VERSION
from tests.openapi.fuzz import run
from tests.openapi.service import RunningService, full_service, staging_service
from tests.services.together import ServiceStack
from tests.simulators.kbase_auth import KBaseAuth

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

HEADERS = st.one_of(
    st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=60),
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["Bearer", "bearer", "BEARER", "Basic", "token", "Bearer Bearer"]),
        st.sampled_from(["", " ", "  ", "\t", ",", ":", "="]),
        st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=60),
    ),
)


@pytest.fixture(scope="module")
def servers(mongo, minio, kafka_server, tmp_path_factory) -> Iterator[ServiceStack]:
    auth = KBaseAuth()
    yield ServiceStack(tmp_path_factory.mktemp("openapi"), mongo, kafka_server, minio, auth)
    auth.stop()


@pytest.fixture(scope="module")
def service(servers: ServiceStack) -> Iterator[RunningService]:
    with full_service(servers) as running:
        yield running


@pytest.fixture(scope="module")
def staging(
    servers: ServiceStack, service: RunningService, tmp_path_factory
) -> Iterator[RunningService]:
    data = tmp_path_factory.mktemp("staging") / "data"
    with staging_service(servers, service, service.root, data) as running:
        yield running


def test_every_operation(service: RunningService, tmp_path: Path) -> None:
    report = run(service, tmp_path, examples=2, seed=1, phases="coverage,fuzzing")
    assert report.failures == [], report.output
    assert report.total > 2000
    assert report.checks["not_a_server_error", "success"] > 2000
    # It got through to what the service has, too.
    assert sum(n for status, n in report.statuses.items() if 200 <= status < 300) > 80
    assert not [status for status in report.statuses if status >= 500 or status == 0]


def test_every_operation_of_the_service_that_stages_reference_data(
    staging: RunningService, tmp_path: Path
) -> None:
    report = run(staging, tmp_path, examples=2, seed=1, phases="coverage,fuzzing")
    assert report.failures == [], report.output
    assert report.total > 50
    assert sum(n for status, n in report.statuses.items() if 200 <= status < 300) > 5
    assert not [status for status in report.statuses if status >= 500 or status == 0]


def test_leaked_secret_is_a_failure(staging: RunningService, tmp_path: Path) -> None:
    # Of both it is known that they tell it.
    leaking = replace(staging, secrets=[VERSION])
    report = run(leaking, tmp_path, examples=1, seed=1, phases="coverage")
    assert report.checks["nothing_is_given_away", "failure"]
    assert any("the log should not have" in failure for failure in report.failures)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(header=HEADERS)
def test_forms_of_the_authorization_header(service: RunningService, header: str) -> None:
    encoded = header.strip().encode("latin-1")
    response = httpx.get(f"{service.root}/whoami", headers={"Authorization": encoded}, timeout=60)
    assert response.status_code == 401
    assert response.json()["error"]["appcode"] in (10020, 10030)
    assert response.headers["www-authenticate"] == "Bearer"
    if len(header) > 20:
        assert header not in response.text
