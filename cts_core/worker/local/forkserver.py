"""Forks workers: to start an interpreter and load the checksum library for each would cost a tenth of a second.

A server starts one fork server and asks it, over a socket, for a worker: it sends the container's folder and
the writing end of a pipe, and gets one byte back when the worker is there. The worker alone keeps that
end, so that the end of the pipe is the end of the worker. Workers live in sessions of their own and outlive fork
server and server; the fork server ends when its server does.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import traceback

from cts_core.worker.container_folder import WORKER_LOG, ContainerFolder
from cts_core.worker.local.main import main
from cts_core.worker.s3.credentials import S3Keys

_MAX_REQUEST = 1 << 14
"""Bytes; more than the longest path."""
_DONE = b"."
_NICENESS = 10
"""What runs as a container makes way for the server and its kernels; it gets all that they leave."""


def request_worker(server: socket.socket, folder: str, nudge: int) -> None:
    """Ask for a worker for the container in ``folder``. Raises OSError when the fork server is gone."""
    socket.send_fds(server, [os.fsencode(folder)], [nudge])
    if not server.recv(len(_DONE)):
        raise BrokenPipeError("the fork server has ended")


def serve(fd: int, keys: S3Keys | None = None) -> None:
    """Fork a worker for each request, until the server is gone. The keys are in our memory and the workers' alone."""
    # A terminal's interrupt is for the server, which says when to end. Nobody waits for the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(fileno=fd) as requests:
        while True:
            folder, fds, _, _ = socket.recv_fds(requests, _MAX_REQUEST, 1)
            if not folder:
                return
            (nudge,) = fds
            if os.fork() == 0:
                requests.close()
                _become_worker(os.fsdecode(folder), nudge, keys)
            os.close(nudge)
            try:
                requests.send(_DONE)
            except BrokenPipeError:
                return


def _become_worker(folder: str, nudge: int, keys: S3Keys | None) -> None:
    """Never returns: a worker must not go on as a fork server."""
    try:
        os.setsid()
        os.nice(_NICENESS)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        log = os.open(ContainerFolder(folder).file(WORKER_LOG), flags, 0o600)
        for standard in (1, 2):
            os.dup2(log, standard)
        os.close(log)
        os.set_inheritable(nudge, False)  # noqa: FBT003 - neither takes a keyword
        os.set_blocking(nudge, False)
        main(folder, nudge, keys)
    except BaseException:  # noqa: BLE001 - said where whoever looks into a lost container finds it
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)
