"""Forks workers, since starting an interpreter and loading the checksum library for each would take a tenth of a second.

A server starts one fork server and requests a worker for each container over a socket: it sends the container's folder and
the write end of a pipe, and gets one byte back when a worker has the request. Only the worker keeps that write end, so that
the end of the pipe is the end of the worker's work on the container. Workers have sessions of their own and outlive the fork
server and the server; the fork server ends when its server does.

A worker in which nothing of its container is left waits a while for the next one: its memory, which a fork copies page by page
as it is touched, is there already. It ends when the fork server does, as soon as it has no container.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import traceback
from typing import Iterator

from cts_core.worker.container_folder import WORKER_LOG, ContainerFolder
from cts_core.worker.local.main import main
from cts_core.worker.runtimes import processes
from cts_core.worker.s3.credentials import S3Keys

_MAX_REQUEST = 1 << 14
"""Bytes; more than the longest path has."""
_DONE = b"."
_NICENESS = 10
"""Containers yield the cpu to the server and its kernels, and get what these leave."""
_IDLE_SECONDS = 10.0
"""How long a worker waits for the next container."""
_MAX_GROWTH = 16 << 20
"""Bytes by which a worker may have grown since its fork to be kept for another container."""


def request_worker(server: socket.socket, folder: str, wakeup_fd: int) -> None:
    """Request a worker for the container in ``folder``. Raises OSError when the fork server has ended."""
    socket.send_fds(server, [os.fsencode(folder)], [wakeup_fd])
    if not server.recv(len(_DONE)):
        raise BrokenPipeError("the fork server has ended")


def serve(fd: int, keys: S3Keys | None = None) -> None:
    """Pass each request to an idle or a new worker, until the server ends. The keys stay in this process and the workers."""
    # A terminal's interrupt is meant for the server, which ends us. The workers' exit statuses are not needed.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # What is here already is the same in every worker: their garbage collections need not touch it, which would copy it.
    gc.freeze()
    workers = _Workers()
    with socket.socket(fileno=fd) as requests:
        while True:
            folder, fds, _, _ = socket.recv_fds(requests, _MAX_REQUEST, 1)
            if not folder:
                return
            (wakeup_fd,) = fds
            if not workers.pass_on(folder, wakeup_fd):
                ours, theirs = socket.socketpair()
                if os.fork() == 0:
                    # Another worker's socket would not end with the fork server while this worker had it, too.
                    for inherited in (requests, ours, *workers):
                        inherited.close()
                    _become_worker(os.fsdecode(folder), wakeup_fd, keys, theirs)
                theirs.close()
                workers.add(ours)
            os.close(wakeup_fd)
            try:
                requests.send(_DONE)
            except BrokenPipeError:
                return


class _Workers:
    """The workers that may become idle, by the fork server's end of a socket to each."""

    def __init__(self) -> None:
        self._sockets: dict[int, socket.socket] = {}
        self._poll = select.poll()

    def __iter__(self) -> Iterator[socket.socket]:
        return iter(self._sockets.values())

    def add(self, worker: socket.socket) -> None:
        """Add a new worker, which has a container."""
        self._sockets[worker.fileno()] = worker
        self._poll.register(worker, select.POLLIN)

    def pass_on(self, folder: bytes, wakeup_fd: int) -> bool:
        """Pass a request to an idle worker; return False when there is none."""
        for fd, _ in self._poll.poll(0):
            worker = self._sockets[fd]
            try:
                # A byte for each container that is done. A worker that has closed its end, or will, is not idle.
                if worker.recv(len(_DONE)):
                    socket.send_fds(worker, [folder], [wakeup_fd])
                    return True
            except OSError:
                pass
            self._poll.unregister(fd)
            self._sockets.pop(fd).close()
        return False


def _become_worker(
    folder: str, wakeup_fd: int, keys: S3Keys | None, requests: socket.socket
) -> None:
    """Become a worker. Never returns, since a worker must not continue as a fork server."""
    try:
        os.setsid()
        os.nice(_NICENESS)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        largest = processes.own_memory() + _MAX_GROWTH
        while _run(folder, wakeup_fd, keys) and processes.own_memory() <= largest:
            try:
                requests.send(_DONE)
            except BrokenPipeError:
                # The fork server has ended.
                break
            request = _await_request(requests)
            if request is None:
                break
            folder, wakeup_fd = request
    except BaseException:  # noqa: BLE001 - logged for the diagnosis of a lost container
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def _run(folder: str, wakeup_fd: int, keys: S3Keys | None) -> bool:
    """Run one container; return whether nothing of it is left in this process."""
    _write_to(ContainerFolder(folder).file(WORKER_LOG))
    os.set_inheritable(wakeup_fd, False)  # noqa: FBT003 - neither takes a keyword
    os.set_blocking(wakeup_fd, False)
    is_clean = main(folder, wakeup_fd, keys)
    # An open file of a job would keep its folder from being removed from NFS while this process waits.
    _write_to(os.devnull)
    return is_clean


def _write_to(path: str) -> None:
    """Append the standard output and error of this process to a file."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for standard in (1, 2):
        os.dup2(fd, standard)
    os.close(fd)


def _await_request(requests: socket.socket) -> tuple[str, int] | None:
    """Wait for the next container; return None when there is none for a while, or the fork server has ended."""
    if not select.select([requests], [], [], _IDLE_SECONDS)[0]:
        # From now on nothing can be sent; what was sent just before is still received.
        requests.shutdown(socket.SHUT_RD)
    folder, fds, _, _ = socket.recv_fds(requests, _MAX_REQUEST, 1)
    return (os.fsdecode(folder), fds[0]) if folder else None
