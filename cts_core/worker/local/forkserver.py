"""Forks workers, since starting an interpreter and loading the checksum library for each would take a tenth of a second.

A server starts one fork server and requests workers over a socket: it sends the container's folder and the write end of a
pipe, and gets one byte back when the worker exists. Only the worker keeps that write end, so that the end of the pipe is
the end of the worker. Workers have sessions of their own and outlive the fork server and the server; the fork server ends
when its server does.
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
"""Bytes; more than the longest path has."""
_DONE = b"."
_NICENESS = 10
"""Containers yield the cpu to the server and its kernels, and get what these leave."""


def request_worker(server: socket.socket, folder: str, wakeup_fd: int) -> None:
    """Request a worker for the container in ``folder``. Raises OSError when the fork server has ended."""
    socket.send_fds(server, [os.fsencode(folder)], [wakeup_fd])
    if not server.recv(len(_DONE)):
        raise BrokenPipeError("the fork server has ended")


def serve(fd: int, keys: S3Keys | None = None) -> None:
    """Fork a worker for each request, until the server ends. The keys stay in this process and the workers."""
    # A terminal's interrupt is meant for the server, which ends us. The workers' exit statuses are not needed.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(fileno=fd) as requests:
        while True:
            folder, fds, _, _ = socket.recv_fds(requests, _MAX_REQUEST, 1)
            if not folder:
                return
            (wakeup_fd,) = fds
            if os.fork() == 0:
                requests.close()
                _become_worker(os.fsdecode(folder), wakeup_fd, keys)
            os.close(wakeup_fd)
            try:
                requests.send(_DONE)
            except BrokenPipeError:
                return


def _become_worker(folder: str, wakeup_fd: int, keys: S3Keys | None) -> None:
    """Become a worker. Never returns, since a worker must not continue as a fork server."""
    try:
        os.setsid()
        os.nice(_NICENESS)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        log = os.open(ContainerFolder(folder).file(WORKER_LOG), flags, 0o600)
        for standard in (1, 2):
            os.dup2(log, standard)
        os.close(log)
        os.set_inheritable(wakeup_fd, False)  # noqa: FBT003 - neither takes a keyword
        os.set_blocking(wakeup_fd, False)
        main(folder, wakeup_fd, keys)
    except BaseException:  # noqa: BLE001 - logged for the diagnosis of a lost container
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)
