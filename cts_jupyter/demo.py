"""A real job, end to end, on this machine: ``python -m cts_jupyter.demo [NOTEBOOK]``.

Starts a CTS in a temporary folder, runs the quickstart notebook against it, prints each cell and its output, and
stops everything that it started. Exits with 0 only if every step succeeded.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from traitlets.config import Config

from cts_jupyter import formatting
from cts_jupyter.client import CTSClient
from cts_jupyter.client.transport import CTSClientError
from cts_jupyter.discovery import TOKEN_VARIABLE, URL_VARIABLE, NoConnectionError, find_connection
from cts_jupyter.examples.example import examples_folder

_START = "from cts_jupyter.server.headless import main; main()"
_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_CELL_SECONDS = 120
_POLL_SECONDS = 0.1
_WIDTH = 100
_FOLDERS = ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR", "TMPDIR")
_LAST_LOG_LINES = 20


class DemoError(Exception):
    """A step failed; the message says which."""


def print_line(text: str = "") -> None:
    """Print a line at once."""
    print(formatting.printable(text), flush=True)  # noqa: T201 - this is a program that prints


def _isolate(folder: Path) -> None:
    """Hide every other Jupyter and CTS from this process and its children."""
    for name in [name for name in os.environ if name.startswith("CTS_")]:
        del os.environ[name]
    for name in (URL_VARIABLE, TOKEN_VARIABLE, "JPY_PARENT_PID"):
        os.environ.pop(name, None)
    for name in _FOLDERS:
        path = folder / name.lower()
        path.mkdir(mode=0o700)
        os.environ[name] = str(path)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[CTSClient]:
    """Run a CTS and yield its client; cancel live jobs and stop the server at the end."""
    log = folder / "server.log"
    command = [
        sys.executable, "-c", _START, "--allow-root", "--ip", "127.0.0.1",
        "--port", str(_free_port()), "--home", str(folder / "home"),
    ]  # fmt: skip
    with log.open("wb") as output:
        # A new session, so that Ctrl-C reaches this process alone, which then stops the server in order.
        process = subprocess.Popen(  # noqa: S603 - our own program
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        with _connect(process, log) as client:
            try:
                yield client
            finally:
                _cancel_jobs(client)
    finally:
        _stop(process)


def _connect(process: subprocess.Popen[bytes], log: Path) -> CTSClient:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            client = CTSClient.of(find_connection())
        except NoConnectionError:
            time.sleep(_POLL_SECONDS)
        else:
            return client
    end = "\n".join(log.read_text(errors="replace").splitlines()[-_LAST_LOG_LINES:])
    raise DemoError(f"The server did not start. The end of its log:\n{end}")


def _cancel_jobs(client: CTSClient) -> None:
    """Cancel the jobs that a failure has left, because jobs outlive their server."""
    with contextlib.suppress(CTSClientError):
        live = [job for job in client.jobs() if not formatting.has_ended(job.state)]
        for job in live:
            with contextlib.suppress(CTSClientError):
                client.cancel(job.id)
        deadline = time.monotonic() + _STOP_SECONDS
        while live and time.monotonic() < deadline:
            live = [job for job in live if not formatting.has_ended(client.status(job.id).state)]
            time.sleep(_POLL_SECONDS)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _run_notebook(path: Path, folder: Path) -> int:
    """Execute the cells one by one and print each; return their number. The kernel's files go to ``folder``.

    Raises DemoError.
    """
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]  # nbformat's
    # Sockets in the file system: a port that is chosen before the kernel opens it may be taken by another process.
    sockets = {"transport": "ipc", "connection_file": str(folder / "kernel.json")}
    client = NotebookClient(
        notebook,
        timeout=_CELL_SECONDS,
        resources={"metadata": {"path": str(path.parent)}},
        config=Config({"ConnectionFileMixin": sockets}),
    )
    number = 0
    with (folder / "kernel.log").open("wb") as log, client.setup_kernel(stderr=log):
        for index, cell in enumerate(notebook.cells):
            if cell.cell_type == "markdown":
                _print_text(cell.source)
                continue
            number += 1
            _print_code(cell.source)
            try:
                client.execute_cell(cell, index)
            except CellExecutionError as e:
                raise DemoError(f"This cell failed: {e.evalue}") from None
            for output in cell.outputs:
                _print_output(output)
    return number


def _print_text(source: str) -> None:
    for paragraph in source.split("\n\n"):
        text = paragraph.replace("`", "")
        if text.startswith("#"):
            title = text.lstrip("# ")
            print_line(f"\n{title}\n{'=' * len(title)}")
        else:
            print_line()
            print_line(textwrap.fill(text, _WIDTH))


def _print_code(source: str) -> None:
    print_line()
    for line in source.splitlines():
        print_line(f"  > {line}" if line else "  >")


def _print_output(output: nbformat.NotebookNode) -> None:
    if output.output_type == "stream":
        text = output.text
    else:
        text = output.get("data", {}).get("text/plain", "")
    if text.strip():
        print_line(textwrap.indent(text.rstrip(), "    "))


def main(notebook: Path | None = None) -> int:
    """Run the demo with the quickstart, or with another notebook, and return the exit code."""
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="cts-demo-"))
    try:
        notebook = notebook or examples_folder() / "quickstart.ipynb"
        _isolate(folder)
        print_line(f"Starting CTS in a temporary folder, {folder}")
        with _server(folder) as client:
            print_line(
                f"{client.root().service_name} answers at {client.url}. The notebook: {notebook}"
            )
            cells = _run_notebook(notebook, folder)
            jobs = client.jobs()
            print_line(
                f"\n{cells} cells ran, {formatting.plural(len(jobs), 'job')}: "
                f"{', '.join(formatting.format_state(job.state) for job in jobs)}."
            )
        print_line("The server is stopped.")
    except (DemoError, CTSClientError, OSError) as e:
        print_line(f"\nThe demo failed. {e}")
        return 1
    except KeyboardInterrupt:
        print_line("\nInterrupted; everything that was started is stopped.")
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print_line(
        f"The temporary folder is removed. All went well, in {time.monotonic() - started:.1f} s."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
