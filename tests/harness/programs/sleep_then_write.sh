#!/bin/sh
# Sleeps, then writes to the output file, or fails in MODE fail; in MODE until, SECONDS is a file that it waits for.
# Usage: sleep_then_write.sh MODE SECONDS OUTPUT
echo "container ${CTS_CONTAINER:-} has begun"
if [ "$1" = until ]; then
  until [ -e "$2" ]; do sleep 0.1; done
else
  sleep "$2"
fi
if [ "$1" = fail ]; then
  echo "reading the inputs" >&2
  echo "Error: the contigs of <b>genome 3</b> overlap" >&2
  exit 3
fi
echo "done" > "$3"
