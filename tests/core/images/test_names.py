"""Image names: parsing, and errors of invalid names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cts_core.errors import ImageNameError
from cts_core.images.names import ImageReference, parse_image_name

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fake/image", ImageReference("docker.io/fake/image")),
        ("ubuntu", ImageReference("docker.io/library/ubuntu")),
        ("docker.io/ubuntu", ImageReference("docker.io/library/ubuntu")),
        ("ubuntu:22.04", ImageReference("docker.io/library/ubuntu", "22.04")),
        ("docker.io/library/ubuntu", ImageReference("docker.io/library/ubuntu")),
        ("ghcr.io/example/tool:1.2", ImageReference("ghcr.io/example/tool", "1.2")),
        (f"ghcr.io/a/b@{DIGEST}", ImageReference("ghcr.io/a/b", None, DIGEST)),
        (f"ghcr.io/a/b:v1@{DIGEST}", ImageReference("ghcr.io/a/b", "v1", DIGEST)),
        ("localhost/a", ImageReference("localhost/a")),
        ("localhost:5000/a", ImageReference("localhost:5000/a")),
        ("registry.example.org:5000/a/b:x", ImageReference("registry.example.org:5000/a/b", "x")),
        ("host/checkm2", ImageReference("host/checkm2")),
        (f"host/my_tool:3@{DIGEST}", ImageReference("host/my_tool", "3", DIGEST)),
        ("host", ImageReference("docker.io/library/host")),
        ("  fake/image ", ImageReference("docker.io/fake/image")),
    ],
)
def test_parse(text: str, expected: ImageReference) -> None:
    assert parse_image_name(text) == expected


def test_only_names_below_host_are_host_images() -> None:
    assert parse_image_name("host/tool").is_host
    assert not parse_image_name("hosts/tool").is_host
    assert not parse_image_name("docker.io/host/tool").is_host


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fake/im*ge", "Illegal character in image name 'fake/im*ge': '*'"),
        ("Fake/image", "Illegal character in image name 'Fake/image': 'F'"),
        ("fake/im ge:1", "Illegal character in image name 'fake/im ge:1': ' '"),
        ("fake/image:1:2", "Illegal image name 'fake/image:1:2'"),
        ("fake/image:", "Illegal tag in image name 'fake/image:': ''"),
        ("fake/image:-1", "Illegal tag in image name 'fake/image:-1': '-1'"),
        ("fake/image@sha256:12", "Illegal digest in image name 'fake/image@sha256:12'"),
        ("fake/image@", "Illegal digest in image name 'fake/image@'"),
        ("127.0.0.1:99999/a:1", "Illegal registry in image name '127.0.0.1:99999/a:1'"),
        ("localhost:0/a", "Illegal registry in image name 'localhost:0/a': 'localhost:0'"),
        ("-.io/image", "Illegal registry in image name '-.io/image': '-.io'"),
        ("fake//image", "Illegal image name 'fake//image'"),
        ("host/", "Illegal image name 'host/'"),
        ("/image", "Illegal image name '/image'"),
        (" ", "An image name is 1 to 1000 characters long"),
        ("a" * 1001, "An image name is 1 to 1000 characters long"),
    ],
)
def test_invalid_names_are_refused(text: str, message: str) -> None:
    with pytest.raises(ImageNameError) as error:
        parse_image_name(text)
    assert str(error.value).startswith(message)


_part = st.from_regex(r"[a-z0-9]{1,8}(?:[._-][a-z0-9]{1,8})?", fullmatch=True)


@pytest.mark.slow
@given(
    registry=st.sampled_from(["ghcr.io", "localhost", "r.example:8080", "docker.io"]),
    parts=st.lists(_part, min_size=2, max_size=4),
    tag=st.none() | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True),
    digest=st.none() | st.just(DIGEST),
)
def test_parse_splits_a_composed_name(registry, parts, tag, digest) -> None:
    name = "/".join([registry, *parts])
    text = name + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
    assert parse_image_name(text) == ImageReference(name, tag, digest)


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        reference = parse_image_name(text)
    except ImageNameError:
        return
    # What is stored can be asked for again.
    assert parse_image_name(reference.name).name == reference.name
