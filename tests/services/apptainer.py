"""Apptainer from Debian sid; each command runs with Debian sid as its root folder.

It uses pivot_root, since inside a chroot the root folder cannot be changed again, as apptainer does. The machine's
temporary folder, with the tests' files, is mounted at the same path.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.services.containers import ContainerRuntime, write_program
from tests.services.server import install_folder, or_skip
from tests.services.sid import install_root, require_root

# The mounts are in a namespace of the one command, and disappear with it.
_ENTER = """
set -e
root=$1; shared=$2; shift 2
mount --bind "$root" "$root"
for folder in /dev /proc /sys "$shared"; do
  mkdir -p "$root$folder"
  mount --rbind "$folder" "$root$folder"
done
cd "$root"
pivot_root . mnt
umount --lazy /mnt
cd /
exec /usr/bin/apptainer "$@"
"""


def install() -> Path:
    """Return the root folder. Raises MissingError."""
    require_root("Apptainer")
    with install_folder("apptainer") as folder:
        root = folder / "root"
        if not root.exists():
            install_root(folder, "apptainer")
            (root / "etc/hosts").touch()
        return root


@pytest.fixture(scope="session")
def apptainer(tmp_path_factory: pytest.TempPathFactory) -> ContainerRuntime:
    """Return Apptainer with a cache of its own."""
    with or_skip():
        root = install()
    folder = tmp_path_factory.mktemp("apptainer")
    shared = tempfile.gettempdir()
    command_line = ["unshare", "--mount", "sh", "-c", _ENTER, "sh", str(root), shared]
    command = write_program(folder / "apptainer", {"APPTAINER_CACHEDIR": str(folder)}, command_line)
    return ContainerRuntime("apptainer", command)
