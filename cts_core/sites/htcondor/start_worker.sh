#!/bin/sh
# Starts CTS' worker on a node: finds a Python, checks and unpacks the code, and becomes the worker.
set -eu

scratch="${_CONDOR_SCRATCH_DIR:-$(pwd)}"
code="$scratch/cts-worker-code"
# HTCondor transfers these back, and holds a container without them, which would hide any other error.
logs="$scratch/cts-${JOB_ID:-unknown}-${CONTAINER_NUMBER:-unknown}-container"
: >>"$logs.out"
: >>"$logs.err"

PATH="${ADDITIONAL_PATH:+$ADDITIONAL_PATH:}${PATH:-/usr/local/bin:/usr/bin:/bin}"
export PATH
python=
for name in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python3.9; do
    if "$name" -I -S -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; then
        python="$name"
        break
    fi
done
if [ -z "$python" ]; then
    echo "CTS: no Python 3.9 or newer is on PATH ($PATH): install one on this node, or name its folder in" \
        "htcondor.additional_path" >&2
    exit 1
fi

# An evicted run may have left it.
rm -rf "$code"
mkdir "$code"
# Its output is kept in memory, since the disk may be full.
message=$("$python" -I -S -c '
import hashlib, io, sys, tarfile
name, expected, folder = sys.argv[1:]
with open(name, "rb") as file:
    content = file.read()
found = hashlib.sha256(content).hexdigest()
if found != expected:
    sys.exit(f"it is not what the job was submitted with: its SHA-256 is {found} and has to be {expected}. "
        "Something between this node and CTS has changed it, or cut it off")
with tarfile.open(fileobj=io.BytesIO(content)) as archive:
    for entry in archive:
        archive.extract(entry, folder)
' "$scratch/${CODE_ARCHIVE:?HTCondor did not say which archive has the code of the worker}" \
    "${CODE_ARCHIVE_SHA256:?HTCondor did not say by which hash that code is known}" "$code" 2>&1) || {
    printf '%s\n' "CTS: the code of the worker cannot be used:" "$message" >&2
    exit 1
}
exec "$python" -I -S "$code/cts_core/worker/node/__main__.py"
