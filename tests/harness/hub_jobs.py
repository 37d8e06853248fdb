"""Jobs in the servers of a hub's users."""

from __future__ import annotations

from pathlib import Path

from cts_jupyter.client import CTSClient
from tests.harness.paths import SLEEP_THEN_WRITE
from tests.services.jupyterhub import UserServer


def client_of(server: UserServer) -> CTSClient:
    return CTSClient(server.cts, lambda: server.token)


def register(server: UserServer) -> None:
    """Register the image of ``submit``."""
    with client_of(server) as client:
        client.register_image("host/tool", executable=str(SLEEP_THEN_WRITE))


def submit(client: CTSClient, folder: Path) -> str:
    """Submit a job that runs until the file ``end`` is in the folder."""
    source = folder / "in.txt"
    source.write_text("genome\n")
    client.upload(source, "data/in.txt", overwrite=True)
    return client.submit(
        {
            "cluster": "local",
            "image": "host/tool",
            "runtime": "PT10M",
            "params": {"args": ["until", str(folder / "end"), "/output_files/o.txt"]},
            "output_dir": f"data/out/{folder.name}/",
            "input_files": ["data/in.txt"],
        }
    )
