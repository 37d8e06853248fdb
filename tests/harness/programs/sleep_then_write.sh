#!/bin/sh
# Sleeps, then writes to the output file, or fails in MODE fail. Usage: sleep_then_write.sh MODE SECONDS OUTPUT
echo "container ${CTS_CONTAINER:-} has begun"
sleep "$2"
if [ "$1" = fail ]; then
  echo "reading the inputs" >&2
  echo "Error: the contigs of <b>genome 3</b> overlap" >&2
  exit 3
fi
echo "done" > "$3"
