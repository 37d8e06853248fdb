#!/bin/sh
# The container of the browser tests. Usage: tool.sh MODE SECONDS OUTPUT
echo "container ${CTS_CONTAINER:-} has begun"
sleep "$2"
if [ "$1" = fail ]; then
  echo "reading the inputs" >&2
  echo "Error: the contigs of <b>genome 3</b> overlap" >&2
  exit 3
fi
echo "done" > "$3"
