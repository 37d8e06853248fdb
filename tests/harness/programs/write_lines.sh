#!/bin/sh
# Writes lines, waits for a file, writes another line, then its output.
# Usage: write_lines.sh COUNT RELEASE OUTPUT
i=1
while [ "$i" -le "$1" ]; do
  printf '\033[32m%06d\033[0m contigs read of container %s, which is a line of a log\n' "$i" "${CTS_CONTAINER:-}"
  i=$((i + 1))
done
until [ -e "$2" ]; do sleep 0.1; done
printf '\033[1;31mlast line\033[0m <img src=x onerror=window.hacked=1>\n'
echo "done" > "$3"
