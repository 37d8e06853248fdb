"""The bounds of the contract as requests meet them: what lies just inside passes, what lies just outside is refused there.

``test_contract.py`` compares the bounds that are declared; this is what is enforced, and those that no schema can say.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from cts_core.errors import RequestValidationError
from cts_core.model.job import MAX_RUNTIME
from cts_jupyter.server.http.parse import read_request
from cts_jupyter.server.routes.table import ROUTES
from tests.harness.paths import VECTORS
from tests.openapi.comparison import BOUNDS, Json

CONTRACT = json.loads((VECTORS / "contract_openapi.json").read_text())
Place = tuple[str, ...]
"""Where a value is in a request: ``[]`` stands for each entry of a list, ``{}`` for each value of an object."""


@dataclass(frozen=True)
class Row:
    """Values just inside the bounds of a place, and those just outside with the type of the refusal."""

    inside: Sequence[Any]
    outside: Mapping[str, Sequence[Any]]


def texts(shortest: str, longest: str, *, short: str = "", **outside: Sequence[str]) -> Row:
    """Return the row of a text; one character less or more is outside."""
    bounds = {"string_too_short": [short], "string_too_long": [f"{longest}{longest[-1]}"]}
    return Row([shortest, longest], bounds | outside)


def numbers(least: int, most: int | None = None) -> Row:
    outside = {"greater_than_equal": [least - 1]}
    if most is None:
        return Row([least], outside)
    return Row([least, most], outside | {"less_than_equal": [most + 1]})


def values_of(name: str) -> Row:
    return Row(CONTRACT["components"]["schemas"][name]["enum"], {"enum": ["no-such", ""]})


NO_MATCH = "string_pattern_mismatch"
ID = texts("a", "a_-9" * 12 + "aa", **{NO_MATCH: ["a!b", "a b", "a/b", "a\n"]})
IMAGE = texts("i", "i" * 1000)
MOUNT = Row(
    ["/a", "/" + "a" * 1023, "/a/b.c-d_e/"],
    {
        "string_too_short": [""],
        "string_too_long": ["/" + "a" * 1024],
        NO_MATCH: ["/", "a", "//", "/a//b", "/a b", "/a;b", "/a\n"],
    },
)
ARGUMENT = texts("a", "/" + "a" * 1023, **{NO_MATCH: ["a b", "a=b", "a'b", "a;b", "$a", "a\n"]})
FLAG = texts("-f", "--" + "f" * 253 + "=", short="-", **{NO_MATCH: ["f=", "-=", "---f", "-f=b"]})
HEADER = Row(
    ["h", "h" * 1000, "a\tb"],
    {
        "string_too_short": [""],
        "string_too_long": ["h" * 1001],
        "value_error": ["\x00", "a\n", "a\x7f", "a\x9f"],
    },
)
CRC = texts("5O33DmauDQI=", "5O33DmauDQI=", short="5O33DmauDQI")
TIME = Row(["2026-03-04T05:00:00Z"], {"datetime_from_date_parsing": ["noon"]})
ZONED = Row(["2026-03-04T05:00:00Z"], {"timezone_aware": ["2026-03-04T05:00:00"]})
BUCKETS = ("ab", "b" * 64, "a.b", "Abc", "a_b", "-ab", "ab-")
OBJECT = Row(
    ["abc/k", f"{'b' * 63}/{'k' * 1024}", f"abc/{'ü' * 512}", "a-1/a b/c "],
    {
        "value_error": [
            *("", " ", "abc", "abc/", "/abc/k", "abc//k", "abc/k//l", "abc/\x07", "abc/a\nb"),
            *("abc/a'b", "abc/a;b", f"abc/{'k' * 1025}", f"abc/{'ü' * 513}"),
            *(f"{bucket}/k" for bucket in BUCKETS),
        ]
    },
)
FOLDER = Row(
    ["abc/k", f"{'b' * 63}/{'k' * 1023}", f"{'b' * 63}/{'k' * 1023}/", "a-1/a b/c "],
    # The slash at the end, which is added where it is not sent, is part of the key.
    {"value_error": [*OBJECT.outside["value_error"], f"abc/{'k' * 1024}"]},
)
REFDATA = texts("abc/k", f"{'b' * 63}/{'k' * 1024}", short="abc/")
"""Its characters are checked later: an illegal path is 30020 there."""
PARAMETER: dict[Place, Row] = {
    ("type",): values_of("ParameterType"),
    ("input_files_format",): values_of("InputFilesFormat"),
    ("manifest_file_format",): values_of("ManifestFileFormat"),
    ("manifest_file_header",): HEADER,
    ("container_num_prefix",): ARGUMENT,
    ("container_num_suffix",): ARGUMENT,
}
PARAMS, FILE = ("body", "params"), ("body", "input_files", "[]")

ROWS: dict[Place, Row] = {
    ("path", "job_id"): ID,
    ("path", "refdata_id"): ID,
    ("path", "image_id"): IMAGE,
    ("path", "container_num"): numbers(0),
    ("path", "cluster"): values_of("Cluster"),
    ("path", "site"): values_of("Cluster"),
    ("path", "new_state"): values_of("ReferenceDataState"),
    ("path", "refdata_s3_path"): REFDATA,
    ("path", "s3_path"): REFDATA,
    ("query", "require_lifetime"): Row(["PT1M"], {"time_delta_parsing": ["x"]}),
    ("query", "refdata_id"): ID,
    ("query", "default_refdata_mount_point"): MOUNT,
    ("query", "user"): texts("a", "a_9" * 33 + "a", **{NO_MATCH: ["A", "9a", "_a", "a-b", "a b"]}),
    ("query", "cluster"): values_of("Cluster"),
    ("query", "state"): values_of("JobState"),
    ("query", "after"): ZONED,
    ("query", "before"): ZONED,
    ("query", "limit"): numbers(1, 1000),
    ("query", "container_number"): numbers(0),
    ("query", "crc64nvme"): CRC,
    ("query", "notification_age"): Row(["PT1M"], {"greater_than_equal": ["PT59.9S"]}),
    ("query", "seek"): numbers(0),
    ("query", "length"): numbers(1),
    ("body", "from_image"): IMAGE,
    ("body", "urls"): Row([[], ["https://a.b/"] * 20], {"too_long": [["https://a.b/"] * 21]}),
    ("body", "urls", "[]"): Row(
        [f"https://a.b/{'c' * 2071}"],
        {"url_too_long": [f"https://a.b/{'c' * 2072}"], "url_parsing": ["", "a b"]},
    ),
    ("body", "usage_notes"): Row(["", "n" * 10_000], {"string_too_long": ["n" * 10_001]}),
    ("body", "unset_keys"): Row([["a"], ["a", "a"]], {"set_type": ["a"]}),
    ("body", "outputs", "[]", "file"): OBJECT,
    ("body", "outputs", "[]", "crc64nvme"): CRC,
    ("body", "time"): TIME,
    ("body", "cluster"): values_of("Cluster"),
    ("body", "image"): IMAGE,
    ("body", "num_containers"): Row(
        [1], {"greater_than_equal": [0, -1], "less_than_equal": [1001], "value_error": [2, 1000]}
    ),
    ("body", "cpus"): numbers(1, 256),
    ("body", "memory"): Row(
        [1_000_000, "1MB", "0.001GB", "1.5GiB", "990GB", 990_000_000_000],
        {
            "greater_than_equal": [999_999, 0, "999KB"],
            "less_than_equal": [990_000_000_001, "991GB", "1TB"],
            "byte_size": [-1, "x"],
            "byte_size_unit": ["1XB"],
        },
    ),
    ("body", "runtime"): Row(
        [1, "PT1S", 10_065 * 60, "P6DT23H45M"],
        {
            "greater_than_equal": [0, -1, 0.9, "PT0.9S"],
            "less_than_equal": [10_065 * 60 + 1, "P7D", "P6DT23H45M0.1S"],
            "time_delta_parsing": ["x", "1h"],
        },
    ),
    ("body", "output_dir"): FOLDER,
    ("body", "input_roots", "[]"): Row(
        ["", "abc", "abc/", "abc/d/", *OBJECT.inside],
        {"value_error": [*OBJECT.outside["value_error"][4:], *BUCKETS]},
    ),
    ("body", "input_files"): Row(
        [["abc/k"], ["abc/k"] * 10_000], {"too_short": [[]], "too_long": [["abc/k"] * 10_001]}
    ),
    (*FILE, "file"): OBJECT,
    (*FILE, "crc64nvme"): CRC,
    (*FILE, "data_id"): Row(
        ["d", "d" * 255, "GCA_1.2 ü;'/"],
        {
            "string_too_short": [""],
            "string_too_long": ["d" * 256],
            "value_error": ["\x00", "a\n", "a\tb", "a\x7f", "a\x9f"],
        },
    ),
    (*PARAMS, "input_mount_point"): MOUNT,
    (*PARAMS, "output_mount_point"): MOUNT,
    (*PARAMS, "refdata_mount_point"): MOUNT,
    (*PARAMS, "args", "[]"): Row(
        [*ARGUMENT.inside, *FLAG.inside],
        {
            "string_too_short": [""],
            "string_too_long": ARGUMENT.outside["string_too_long"],
            NO_MATCH: [*ARGUMENT.outside[NO_MATCH], *FLAG.outside[NO_MATCH][1:], "-"],
        },
    ),
    (*PARAMS, "args", "[]", "flag"): FLAG,
    (*PARAMS, "environment"): Row(
        [{"_": "x"}, {"A" * 256: "x"}, {"A_9": "x"}],
        {
            NO_MATCH: [{"a": "x"}, {"9A": "x"}, {"A-B": "x"}],
            "string_too_short": [{"": "x"}],
            "string_too_long": [{"A" * 257: "x"}],
        },
    ),
    (*PARAMS, "environment", "{}"): ARGUMENT,
    **{(*PARAMS, "args", "[]", *place): row for place, row in PARAMETER.items()},
    **{(*PARAMS, "environment", "{}", *place): row for place, row in PARAMETER.items()},
    (*PARAMS, "environment", "{}", "input_files_format"): Row(
        ["comma_separated_list"], {"enum": ["no-such"]}
    ),
}
BY_FACTS = {("post", "/jobs", ("body", "input_roots", "[]"))}
"""Bounds that the contract's text says, and no schema."""

MANIFEST = {"type": "manifest_file", "manifest_file_format": "files"}
BODIES: dict[str, Json] = {
    "/jobs": {
        "cluster": "kbase",
        "image": "i",
        "params": {},
        "output_dir": "abc/out",
        "input_files": [{"file": "abc/k", "data_id": "d"}],
    },
    "/external_exec/jobs/{job_id}/container/{container_num}/update/{new_state}": {
        "time": "2026-03-04T05:00:00Z",
    },
}
PATHS = {
    "cluster": "kbase",
    "container_num": "0",
    "new_state": "complete",
    "refdata_s3_path": "abc/k",
    "s3_path": "abc/k",
    "site": "kbase",
}
QUERIES = {"/admin/jobs/{job_id}/notify": {"state": "complete"}}


def _schemas(schema: Json, place: Place) -> Iterator[tuple[Place, Json]]:
    """Iterate over a schema and those in it, with their places."""
    while "$ref" in schema:
        schema = CONTRACT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    yield place, schema
    for option in schema.get("anyOf", ()):
        yield from _schemas(option, place)
    if "items" in schema:
        yield from _schemas(schema["items"], (*place, "[]"))
    for values in schema.get("patternProperties", {}).values():
        yield from _schemas(values, (*place, "{}"))
    for name, inner in schema.get("properties", {}).items():
        yield from _schemas(inner, (*place, name))


def _requests() -> Iterator[tuple[str, str, Place, Json]]:
    """Iterate over every place in a request of the contract, with its method, path and schema."""
    for path, methods in CONTRACT["paths"].items():
        for method, operation in methods.items():
            contents = operation.get("requestBody", {}).get("content", {}).values()
            starts = [
                *(((p["in"], p["name"]), p["schema"]) for p in operation.get("parameters", ())),
                *((("body",), content["schema"]) for content in contents),
            ]
            for start, whole in starts:
                for place, schema in _schemas(whole, start):
                    yield method, path, place, schema


CASES = sorted(
    BY_FACTS
    | {
        (method, path, place)
        for method, path, place, schema in _requests()
        if schema.keys() & (BOUNDS | {"enum", "propertyNames"})
    }
)
CLOSED = sorted(
    {
        (method, path, place)
        for method, path, place, schema in _requests()
        if schema.get("additionalProperties") is False
    }
)


def _put(place: Place, container: Any, value: Any) -> Any:
    """Return the container with a value at a place."""
    if not place:
        return value
    name, *rest = place
    if name == "[]":
        return [_put(tuple(rest), None, value)]
    key = "A" if name == "{}" else name
    inner = container if isinstance(container, dict) else {}
    inner = _around(inner, key, value)
    return {**inner, key: _put(tuple(rest), inner.get(key), value)}


def _around(fields: Json, name: str, value: Any) -> Json:
    """Return what must stand beside a field for its value to be legal."""
    if name in ("file", "crc64nvme", "data_id"):
        return {"file": "abc/k", **fields}
    if name == "type":
        return {"input_files_format": "comma_separated_list", "manifest_file_format": "files"}
    if name == "input_files_format":
        flag = {"flag": "-f"} if value == "repeat_parameter" else {}
        return {"type": "input_files", **flag}
    if name in (place[0] for place in PARAMETER) or name == "flag":
        return MANIFEST
    return fields


def _faults(method: str, path: str, place: Place, value: Any) -> set[tuple[str, tuple[Any, ...]]]:
    """Return the type and place of each fault of a request with this value."""
    (route,) = (r for r in ROUTES if (r.method.lower(), r.path) == (method, path))
    names = route.path_model.model_fields if route.path_model else ()
    placeholders = {name: PATHS.get(name, "x") for name in names}
    query, body = dict(QUERIES.get(path, {})), copy.deepcopy(BODIES.get(path, {}))
    section, *rest = place
    if section == "path":
        placeholders[rest[0]] = str(value)
    elif section == "query":
        query[rest[0]] = str(value)
    else:
        body = _put(tuple(rest), body, value)
    sent = json.dumps(body).encode() if route.body_model else b""
    try:
        read_request(route, placeholders, urlencode(query), sent, "application/json")
    except RequestValidationError as e:
        return {(detail["type"], tuple(detail["loc"])) for detail in e.details}
    return set()


def _is_at(place: Place, loc: tuple[Any, ...]) -> bool:
    """Return whether a fault is at a place; the tags of unions stand between its parts."""
    parts = iter(loc)
    names = (part for part in place if part not in ("[]", "{}"))
    return all(name in parts for name in names)


def _id(part: str | Place) -> str:
    return part if isinstance(part, str) else ".".join(part)


@pytest.mark.parametrize(("method", "path", "place"), CASES, ids=_id)
def test_bound(method: str, path: str, place: Place) -> None:
    row = ROWS[place]
    for value in row.inside:
        assert _faults(method, path, place, value) == set(), value
    for kind, values in row.outside.items():
        for value in values:
            faults = _faults(method, path, place, value)
            whole_body = kind == "value_error" and place == ("body", "num_containers")
            at = ("body",) if whole_body else place
            assert any(k == kind and _is_at(at, loc) for k, loc in faults), (value, faults)


@pytest.mark.parametrize(("method", "path", "place"), CLOSED, ids=_id)
def test_unknown_fields_are_refused(method: str, path: str, place: Place) -> None:
    faults = _faults(method, path, place, {"zz": 1})
    assert any(kind == "extra_forbidden" and _is_at((*place, "zz"), loc) for kind, loc in faults), (
        faults
    )


def test_every_row_is_a_bound_of_the_contract() -> None:
    assert {place for _, _, place in CASES} == set(ROWS)


def test_the_largest_number_of_containers_needs_as_many_files() -> None:
    body = BODIES["/jobs"] | {"num_containers": 1000, "input_files": ["abc/k"] * 1000}
    assert _faults("post", "/jobs", ("body",), body) == set()


def test_the_longest_runtime_is_that_of_the_sites_of_the_contract() -> None:
    assert timedelta(days=6, hours=23, minutes=45) == MAX_RUNTIME
    body = BODIES["/jobs"] | {"cluster": "local"}
    assert _faults("post", "/jobs", ("body",), body | {"runtime": "P30D"}) == set()
