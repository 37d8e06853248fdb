"""A container registry: Debian's docker-registry on loopback, and a client that pushes images to it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.services.debian import unpack
from tests.services.server import (
    MissingError,
    ServerProcess,
    free_port,
    install_folder,
    is_listening,
    or_skip,
    require_program,
)

CRANE = "github.com/google/go-containerregistry/cmd/crane@v0.20.3"
OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker.distribution.manifest."


def install() -> Path:
    """Return the registry's program. Raises MissingError."""
    with install_folder("registry") as folder:
        program = folder / "usr" / "bin" / "docker-registry"
        if not program.exists():
            unpack(folder, folder, "docker-registry")
        return program


def install_crane() -> Path:
    """Return the program crane. Raises MissingError."""
    with install_folder("crane") as folder:
        program = folder / "crane"
        if not program.exists():
            go = require_program("go", "crane is built with it")
            done = subprocess.run(
                [go, "install", CRANE],
                env={**os.environ, "GOBIN": str(folder)},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode != 0:
                raise MissingError(f"crane cannot be built: {done.stderr}")
        return program


@dataclass
class Registry:
    """A running registry; ``host`` is its address and port."""

    server: ServerProcess
    port: int

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}/v2"

    def push_blob(self, repository: str, content: bytes) -> dict[str, Any]:
        """Push a blob; return its descriptor, without a media type."""
        digest = digest_of(content)
        with httpx.Client(timeout=30) as client:
            start = client.post(f"{self.url}/{repository}/blobs/uploads/")
            start.raise_for_status()
            target = httpx.URL(start.headers["Location"]).copy_merge_params({"digest": digest})
            client.put(target, content=content).raise_for_status()
        return {"digest": digest, "size": len(content)}

    def push_manifest(self, repository: str, tag: str, manifest: Mapping[str, Any]) -> str:
        """Push a manifest; return its digest."""
        content = json.dumps(manifest).encode()
        httpx.put(
            f"{self.url}/{repository}/manifests/{tag}",
            content=content,
            headers={"Content-Type": manifest["mediaType"]},
        ).raise_for_status()
        return digest_of(content)

    def push_image(
        self,
        repository: str,
        tag: str,
        entrypoint: list[str] | None,
        *,
        docker: bool = False,
        layers: Sequence[bytes] = (),
        run: Mapping[str, Any] | None = None,
        **config: Any,
    ) -> str:
        """Push an image of these layers, which are tar archives; return its digest.

        ``run`` has further fields of the image's run configuration.
        """
        run = {"Cmd": ["ignored"], **(run or {})}
        if entrypoint is not None:
            run["Entrypoint"] = entrypoint
        text = {
            "os": "linux",
            "architecture": "amd64",
            "config": run,
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
            **config,
        }
        blob = self.push_blob(repository, json.dumps(text).encode())
        media_type = (
            "application/vnd.docker.container.image.v1+json" if docker else f"{OCI}config.v1+json"
        )
        return self.push_manifest(
            repository,
            tag,
            {
                "schemaVersion": 2,
                "mediaType": f"{DOCKER}v2+json" if docker else f"{OCI}manifest.v1+json",
                "config": {"mediaType": media_type, **blob},
                "layers": [
                    {"mediaType": f"{OCI}layer.v1.tar", **self.push_blob(repository, layer)}
                    for layer in layers
                ],
            },
        )

    def push_index(
        self, repository: str, tag: str, variants: Mapping[str, str], *, docker: bool = False
    ) -> str:
        """Push an index of manifests by architecture; return its digest."""
        media_type = f"{DOCKER}v2+json" if docker else f"{OCI}manifest.v1+json"
        return self.push_manifest(
            repository,
            tag,
            {
                "schemaVersion": 2,
                "mediaType": f"{DOCKER}list.v2+json" if docker else f"{OCI}index.v1+json",
                "manifests": [
                    {
                        "mediaType": media_type,
                        "digest": digest,
                        "size": self.size(repository, digest),
                        "platform": {"os": "linux", "architecture": architecture},
                    }
                    for architecture, digest in variants.items()
                ],
            },
        )

    def size(self, repository: str, digest: str) -> int:
        accept = f"{OCI}manifest.v1+json, {DOCKER}v2+json"
        response = httpx.get(
            f"{self.url}/{repository}/manifests/{digest}", headers={"Accept": accept}
        )
        return len(response.content)


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def start_registry(folder: Path, auth: Mapping[str, Any] | None = None) -> Registry:
    """Start a registry with its images in ``folder``."""
    program = install()
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "images")}},
        "http": {"addr": f"127.0.0.1:{port}", "secret": "of-the-tests"},
        **({"auth": auth} if auth else {}),
    }
    file = folder / "config.yml"
    # JSON is YAML.
    file.write_text(json.dumps(config))
    server = ServerProcess([str(program), "serve", str(file)], folder, lambda: is_listening(port))
    server.start()
    return Registry(server, port)


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Start a registry without authentication."""
    with or_skip():
        running = start_registry(tmp_path_factory.mktemp("registry"))
    yield running
    running.server.stop()


@pytest.fixture(scope="session")
def crane() -> Path:
    """Return the program crane."""
    with or_skip():
        return install_crane()
