#!/bin/sh
# The container of these tests. Usage: tool.sh MODE OUTPUT [ARGUMENT...]
# MODE: ok; fail, which is one that fails where NUMBER is 1, or always if unset; wait, until it is stopped.
echo "out of $2"
echo "err of $2" >&2
if [ "$1" = wait ]; then exec sleep 100; fi
if [ "$1" = fail ] && [ "${NUMBER:-1}" = 1 ]; then exit 4; fi
shift
output=$1
echo "$@" > "$output"
