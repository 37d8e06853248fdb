"""The commands that are run at NERSC, in bash. Pure.

Paths were checked to have plain characters alone; everything else is quoted.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cts_core.sites.jaws.layout import DEPLOYED_RESULTS, SERVICE, Kind, Machine, Step

_DTN = "source /etc/bashrc\n"
"""A command on a DTN has ``$SCRATCH`` and the rest only after it."""
_PYTHON = """\
python=python3
"$python" -I -S -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null || {
  module use /global/common/software/nersc/pe/modulefiles/latest
  module load python
}
"""
_JAWS = """\
module use /global/cfs/projectdirs/kbase/jaws/modulefiles
module load jaws
"""
_MISSING = "code is missing"
_SUMS = ".sums"
"""Beside the helper's code: the checksums of its files, as they were unpacked."""
_MAIN = f"""\
import hashlib, os, sys
code = sys.argv.pop(1)
try:
    with open(os.path.join(code, "{_SUMS}")) as sums:
        for line in sums:
            digest, name = line.rstrip().split("  ", 1)
            with open(os.path.join(code, name), "rb") as file:
                if hashlib.sha256(file.read()).hexdigest() != digest:
                    raise ImportError(name + " is not whole")
    sys.path.insert(0, code)
    from cts_core.worker.nersc import main
except Exception as e:
    sys.exit(f"{{e}}\\n{_MISSING}")
sys.exit(main(sys.argv[1:]))
"""
_SCRATCH = "scratch="


def helper(
    machine: Machine,
    code: str,
    arguments: Sequence[str],
    *,
    needs_jaws: bool = False,
    question: Mapping[str, Any] | None = None,
) -> str:
    """Return the command that runs the helper; the question is its standard input."""
    words = ["-I", "-S", "-c", _MAIN, code, *arguments]
    command = f'exec "$python" {shlex.join(words)}'
    if question is not None:
        # JSON in ASCII has no line that could end it.
        command += f" <<'CTS_END'\n{json.dumps(question)}\nCTS_END\n"
    return "".join(
        [_DTN if machine is Machine.DTNS else "", _PYTHON, _JAWS if needs_jaws else "", command]
    )


def prepare_dtn(group: str, code: str) -> str:
    """Return the command that makes our folders, and tells ``$SCRATCH`` and whether the helper's code is missing, or not whole."""
    plans = f'"$SCRATCH"/{SERVICE}/{group}/plans'
    return (
        f'{_DTN}set -e\ntest -n "$SCRATCH"\numask 077\nmkdir -p {plans}\nchmod 700 {plans}\n'
        f"umask 022\nmkdir -p {shlex.quote(code.rpartition('/')[0])}\n"
        f"(cd {shlex.quote(code)} && sha256sum --status -c {_SUMS}) 2>/dev/null"
        f' || echo "{_MISSING}"\necho "{_SCRATCH}$SCRATCH"\n'
    )


def prepare_perlmutter(folder: str) -> str:
    """Return the command that makes a folder below the home for its owner alone, empties it of what is old, and tells ``$SCRATCH``."""
    path = f"~/{shlex.quote(folder)}"
    return (
        f"set -e\numask 077\nmkdir -p {path}\nchmod 700 {path}\n"
        f"find {path} -type f -mmin +60 -delete\n"
        f'echo "{_SCRATCH}$SCRATCH"\n'
    )


def place_for_owner(uploaded: str, path: str) -> str:
    """Return the command that puts an uploaded file, whole and for its owner alone, where it belongs; both are below the home."""
    uploaded, path = (f"~/{shlex.quote(name)}" for name in (uploaded, path))
    return f"set -e\nchmod 600 {uploaded}\nmv -fT {uploaded} {path}\n"


_LOOK = """\
if [ -n "$SCRATCH" ]; then echo "\\$SCRATCH is $SCRATCH"; else echo "{wrong}\\$SCRATCH is not set"; fi
for folder in {folders}; do
  if [ ! -d "$folder" ]; then echo "{wrong}there is no folder $folder"
  elif [ ! -r "$folder" ] || [ ! -x "$folder" ]; then echo "{wrong}$folder cannot be read"
  elif [ ! -w "$folder" ] && [ -n "{writes}" ]; then echo "{wrong}$folder cannot be written"
  else echo "$folder is there, of $(stat -c 'the group %G with the mode %a' "$folder")"
  fi
done
if told=$("$python" -I -S -c 'import sys; print(sys.version.split()[0]); sys.exit(sys.version_info < (3, 9))' 2>/dev/null)
then echo "Python is $told"; else echo "{wrong}there is no Python 3.9 or newer"; fi
"""
_LOOK_AT_GROUP = """\
group=$(stat -c %G {shared} 2>/dev/null)
[ -z "$group" ] || case " $(id -Gn) " in
  *" $group "*) echo "reference data are of the group $group, by which JAWS reads them" ;;
  *) echo "{wrong}the user $(id -un) is not in the group $group of {shared}, by which JAWS reads reference data" ;;
esac
"""
_LOOK_FOR_JAWS = """\
if command -v jaws >/dev/null; then echo "the client of JAWS is $(command -v jaws)"
else echo "{wrong}there is no command jaws after: module load jaws"; fi
"""
WRONG = "wrong: "
"""Begins a line of what a look tells that jobs cannot do with."""


def look_around(machine: Machine, folders: Iterable[str], shared: str) -> str:
    """Return the command that tells what jobs need of a machine, a line each, and changes nothing.

    JAWS's user reads what is below the folder ``shared`` by that folder's group.
    """
    is_dtn = machine is Machine.DTNS
    values = {
        "wrong": WRONG,
        "folders": shlex.join(folders),
        "writes": "x" if is_dtn else "",
        "shared": shlex.quote(shared),
    }
    if is_dtn:
        return f"{_DTN}{_PYTHON}{_LOOK.format(**values)}{_LOOK_AT_GROUP.format(**values)}"
    return f"{_PYTHON}{_JAWS}{_LOOK.format(**values)}{_LOOK_FOR_JAWS.format(**values)}"


_TELL = """\
cd "$SCRATCH"/{folder} 2>/dev/null || {{ echo "The job has no folder at NERSC yet"; exit 0; }}
echo "The folder of the job at NERSC is $PWD"
for file in {ends}; do
  if [ -f "$file" ]; then echo "$file of $(date -ur "$file" '+%Y-%m-%d %H:%M:%S UTC'): $(head -c {most} "$file" | tr '\\n' ' ')"; fi
done
"""
_TOLD = 300
"""Bytes of a file that are told."""


def tell_folder(group: str, job_id: str) -> str:
    """Return the command that tells operators which attempts there were at the steps of a job, and changes nothing.

    It names what it reads: other files of the folder may have links in them, which are worth as much as keys.
    """
    folder = shlex.quote(f"{SERVICE}/{group}/jobs/{job_id}")
    ends = [f"{step.value}-*.{kind.value}" for step in Step for kind in (Kind.CLAIM, Kind.END)]
    files = " ".join([*ends, *DEPLOYED_RESULTS.values()])
    return f"{_DTN}{_TELL.format(folder=folder, ends=files, most=_TOLD)}"


def scratch_in(output: str) -> str:
    """Return what a command told of ``$SCRATCH``; empty if it told nothing."""
    lines = (line for line in output.splitlines() if line.startswith(_SCRATCH))
    return next((line.removeprefix(_SCRATCH) for line in lines), "")


def is_code_missing(output: str) -> bool:
    """Return whether a command told that the helper's code is missing."""
    return _MISSING in output.splitlines()


def join(pieces: Sequence[str], path: str) -> str:
    """Return the command that makes one file of its pieces, whole, and removes them; one that comes late changes nothing."""
    stem, _, ending = path.rpartition(".")
    path, parts = shlex.quote(path), shlex.join(pieces)
    new = f"{shlex.quote(stem)}.joined.$$.{shlex.quote(ending)}"
    return (
        f"{_DTN}if [ -e {path} ]; then rm -f {parts}; exit 0; fi\n"
        f"if cat {parts} > {new} && mv -fT {new} {path}; then rm -f {parts}; else rm -f {new}; exit 1; fi\n"
    )


def unpack_code(archive: str, code: str) -> str:
    """Return the command that puts the helper's code into its folder, whole or file by file."""
    parent, _, name = code.rpartition("/")
    # A group's name may have dots in it, but no comma: what is named so is of this group alone.
    left = shlex.quote(f"{name},*")
    parent, archive, code = map(shlex.quote, (parent, archive, code))
    return (
        f"{_DTN}set -e\n"
        # What was left by servers that were killed here.
        f"find {parent} -mindepth 1 -maxdepth 1 -name {left} -mmin +1440 -exec rm -rf {{}} + || true\n"
        f"new=$(mktemp -d {code},XXXXXXXX)\nchmod 755 $new\ntar -xzf {archive} -C $new\n"
        f"(cd $new && find . -type f -print0 | xargs -0 sha256sum > $new{_SUMS})\nmv $new{_SUMS} $new/{_SUMS}\n"
        f"if ! mv -T $new {code} 2>/dev/null; then\n  test -d {code}\n"
        # What is there may be in use, also by another server that was faster: each file is replaced whole.
        f"  (cd $new && find . -type d -exec mkdir -p {code}/{{}} \\; && find . -type f -exec mv -fT {{}} {code}/{{}} \\;)\n"
        f"  rm -rf $new\nfi\nrm -f {archive}\n"
    )


def remove(folder: str, others: Sequence[str], plans: str) -> str:
    """Return the command that removes the folder of a job, or of reference data, other folders of it, and its plans.

    Without its plan, a command that comes late does nothing.
    """
    name = shlex.quote(folder.rpartition("/")[2])
    return (
        f"{_DTN}rm -f {shlex.quote(plans)}/{name}.*.plan\nrm -rf {shlex.join([folder, *others])}\n"
    )


def remove_staging(work: str, folder: str, plans: str) -> str:
    """Return the command that removes what the transfer of reference data has left: in its own folder, and beside that of the data."""
    return (
        f"{remove(work, [], plans)}"
        f"rm -rf {shlex.quote(folder)}.*.tmp {shlex.quote(folder)}.*.tmp.packed\n"
    )


def jaws_config(token: str, team: str) -> bytes:
    """Return the config of JAWS's client."""
    return f"\n[USER]\ntoken = {token}\ndefault_team = {team}\n".encode()
