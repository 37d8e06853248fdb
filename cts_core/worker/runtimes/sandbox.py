"""Runs a host program by bubblewrap, in namespaces of its own.

In a mount namespace alone it sees the whole machine, and its folders at their mount points, as in a container. For a service with
several users, it sees the folders that it needs and no process but its own: the program may be made to run what a user writes, and
runs as the server's user. It shares the machine's network, unless the site has none, and its limits.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import tempfile
from typing import BinaryIO, Iterable, List, Mapping, Sequence, Tuple

from cts_core.worker.container_folder import SCRATCH, ContainerFolder
from cts_core.worker.plan import WorkerPlan
from cts_core.worker.runtimes.base import Mount, mounts

PROGRAM = "bwrap"
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_SYSTEM_FILES = (
    *("/etc/alternatives", "/etc/ca-certificates", "/etc/fonts", "/etc/group", "/etc/hosts", "/etc/ld.so.cache"),
    *("/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/mime.types", "/etc/nsswitch.conf"),
    *("/etc/passwd", "/etc/pki/ca-trust", "/etc/pki/tls/certs", "/etc/pki/tls/openssl.cnf", "/etc/resolv.conf"),
    *("/etc/ssl/certs", "/etc/ssl/openssl.cnf"),
)  # fmt: skip
"""What programs read of the system's configuration; all else in /etc may be a service's."""
_SHARED_MEMORY = 64 << 20
"""Bytes of /dev/shm, as many as Docker and Podman give a container: what is written there is memory that nobody counts."""
_LONGEST_VARIABLE = 128 << 10
"""Bytes that Linux takes of a variable, with its name and its end."""
_PID_NAMESPACE = "/proc/self/ns/pid"
_TRY_SECONDS = 30.0


def can_mount(target: str) -> bool:
    """Return whether a folder can be mounted at this path without hiding anything of the machine, or making anything there."""
    top = "/".join(os.path.normpath(target).split("/")[:2])
    if not os.path.lexists(top):
        return True
    try:
        return not os.path.islink(target) and not os.listdir(target)
    except OSError:
        return False


def namespace_command(mounts: Sequence[Mount], *, folder: str) -> List[str]:
    """Return the words before a program's own that run it in this folder, with these mounts and the whole machine besides.

    Raises FileNotFoundError.
    """
    command = [_program(), "--die-with-parent", *("--cap-add", "ALL") * (os.geteuid() == 0)]
    # The root is a file system of its own, for nothing may be made in the machine's.
    for name in os.listdir("/"):
        path = f"/{name}"
        if os.path.islink(path):
            command += ["--symlink", os.readlink(path), path]
        else:
            command += ["--dev-bind-try", path, path]
    command += _bind((mount.source, mount.target, mount.is_writable) for mount in mounts)
    return [*command, "--remount-ro", "/", "--chdir", folder, "--"]


def sandbox_command(plan: WorkerPlan, folder: ContainerFolder, variables: int) -> List[str]:
    """Return the words before a program's own that run it isolated. Raises FileNotFoundError.

    ``variables`` is the descriptor of its ``variables_file``.
    """
    scratch = folder.file(SCRATCH)
    command = [*_base(network=plan.network), "--args", str(variables)]
    # First, because the folders of the container may lie below it.
    command += ["--bind", scratch, "/tmp"]  # noqa: S108 - the program's own
    seen = _seen(plan.visible_folders or [])
    command += _read_only(path for path in seen if path not in _SYSTEM)
    hidden = _hidden(plan.hidden_folders, seen)
    for path in hidden:
        command += ["--tmpfs", path]
    # After the folders that are hidden, in which these may lie.
    command += _read_only(_unseen([plan.entrypoint[0], plan.program_file], seen))
    own = mounts(plan, folder)
    targets = [(mount.source, mount.source, mount.is_writable) for mount in own]
    targets += [(m.source, m.target, m.is_writable) for m in own if can_mount(m.target)]
    command += _bind([*targets, (scratch, scratch, True)])
    # What is written into a tmpfs is memory that nobody counts.
    for path in ("/", *hidden):
        command += ["--remount-ro", path]
    return [*command, "--chdir", working_folder(own[1]), "--"]


def working_folder(outputs: Mount) -> str:
    """Return the folder in which an isolated program starts: that of its outputs."""
    return outputs.target if can_mount(outputs.target) else outputs.source


def variables_file(environment: Mapping[str, str]) -> BinaryIO:
    """Return a file of memory by which bubblewrap gives the program these variables, which no command line shows.

    Raises OSError for a variable that no program could be started with, as a start without bubblewrap does.
    """
    if any(len(os.fsencode("=".join(item))) >= _LONGEST_VARIABLE for item in environment.items()):
        raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
    words = [word for item in environment.items() for word in ("--setenv", *item)]
    file = os.fdopen(os.memfd_create("variables"), "w+b")
    file.write(b"".join(os.fsencode(word) + b"\0" for word in words))
    file.seek(0)
    return file


def find_fault() -> str | None:
    """Return why programs cannot be isolated on this machine; None if they can."""
    try:
        namespace = subprocess.run(  # noqa: S603 - a fixed command
            [*_base(network=True), "--", "readlink", _PID_NAMESPACE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={},
            timeout=_TRY_SECONDS,
            check=True,
        ).stdout
        if namespace.decode().strip() == os.readlink(_PID_NAMESPACE):
            return f"{PROGRAM} hides no processes"
    except subprocess.CalledProcessError as e:
        return e.stderr.decode(errors="replace").strip() or str(e)
    except (OSError, subprocess.TimeoutExpired) as e:
        return str(e)
    return None


def find_namespace_fault() -> str | None:
    """Return why programs cannot have a mount namespace on this machine; None if they can."""
    with tempfile.TemporaryDirectory(prefix="cts-probe-") as folder:
        mount = Mount(folder, f"/{os.path.basename(folder)}", is_writable=True)
        try:
            subprocess.run(  # noqa: S603 - a fixed command
                [*namespace_command([mount], folder=mount.target), "mkdir", "made"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                timeout=_TRY_SECONDS,
                check=True,
            )
        except subprocess.CalledProcessError as e:
            return e.stderr.decode(errors="replace").strip() or str(e)
        except (OSError, subprocess.TimeoutExpired) as e:
            return str(e)
        return None if os.path.isdir(os.path.join(folder, "made")) else f"{PROGRAM} mounts nothing"


def find_overlap(visible: Iterable[str], hidden: Iterable[str]) -> tuple[str, str] | None:
    """Return a visible folder that lies in a hidden one, and that one; None if there is none."""
    hidden = list(hidden)
    overlaps = (
        (needed, private)
        for needed in visible
        for private in hidden
        if _is_within(os.path.realpath(needed), os.path.realpath(private))
    )
    return next(overlaps, None)


def _seen(visible: Iterable[str]) -> dict[str, str]:
    """Return the real folder of each folder that the program sees.

    A visible folder is seen by its real path, because links in other folders may lead there, and by its own.
    """
    visible = list(visible)
    real = [os.path.realpath(path) for path in visible]
    return {
        path: os.path.realpath(path)
        for path in (*_SYSTEM, *real, *_unseen(visible, [*_SYSTEM, *real]))
    }


def _hidden(folders: Iterable[str], seen: Mapping[str, str]) -> List[str]:
    """Return every path by which the program would see one of these folders."""
    real = [path for path in map(os.path.realpath, folders) if os.path.isdir(path)]
    places = (
        os.path.normpath(os.path.join(path, os.path.relpath(each, source)))
        for each in real
        for path, source in seen.items()
        if _is_within(each, source)
    )
    return list(dict.fromkeys(places))


def _is_within(path: str, folder: str) -> bool:
    return os.path.commonpath([path, folder]) == folder


def _unseen(files: Iterable[str], seen: Iterable[str]) -> List[str]:
    # Of those that are seen already, one that is a link could not be mounted over.
    folders = tuple(f"{folder.rstrip('/')}/" for folder in seen)
    return [file for file in dict.fromkeys(files) if not file.startswith(folders)]


def _program() -> str:
    program = shutil.which(PROGRAM)
    if program is None:
        raise FileNotFoundError(f"there is no program {PROGRAM}")
    return os.path.abspath(program)


def _bind(binds: Iterable[Tuple[str, str, bool]]) -> List[str]:
    """Return the words that mount each source at its target, writable or not."""
    return [
        word
        for source, target, is_writable in binds
        for word in ("--bind" if is_writable else "--ro-bind", source, target)
    ]


def _base(*, network: bool) -> List[str]:
    command = [
        *(_program(), "--unshare-all", "--die-with-parent", "--cap-drop", "ALL"),
        *("--share-net",) * network,
        *("--tmpfs", "/tmp", "--proc", "/proc", "--dev", "/dev"),  # noqa: S108 - the program's own
        *("--size", str(_SHARED_MEMORY), "--tmpfs", "/dev/shm", "--remount-ro", "/dev"),  # noqa: S108 - likewise
    ]
    return command + _read_only([*_SYSTEM, *_SYSTEM_FILES])


def _read_only(paths: Iterable[str]) -> List[str]:
    return [word for path in paths for word in ("--ro-bind-try", path, path)]
