"""Apptainer from Debian sid, whose root folder each command makes its own for as long as it runs.

That is no chroot, in which no further root folder can be changed to. The machine's temporary folder, with the tests' files, is
at its place there, too.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.services.containers import Engine, write_program
from tests.services.server import installing, or_skip
from tests.services.sid import install_root, need_root

# The mounts are those of the one command, and gone with it.
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
    """The root folder. Raises MissingError."""
    need_root("Apptainer")
    with installing("apptainer") as folder:
        root = folder / "root"
        if not root.exists():
            install_root(folder, "apptainer")
            (root / "etc/hosts").touch()
        return root


@pytest.fixture(scope="session")
def apptainer(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """Apptainer, with a cache of its own."""
    with or_skip():
        root = install()
    folder = tmp_path_factory.mktemp("apptainer")
    shared = tempfile.gettempdir()
    words = ["unshare", "--mount", "sh", "-c", _ENTER, "sh", str(root), shared]
    command = write_program(folder / "apptainer", {"APPTAINER_CACHEDIR": str(folder)}, words)
    return Engine("apptainer", command)
