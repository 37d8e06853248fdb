#!/bin/sh
# Writes its arguments to the output file. Usage: write_arguments.sh MODE OUTPUT [ARGUMENT...]
# MODE: ok; fail, which exits with 4 where NUMBER is 1 or unset; wait, which sleeps until it is
# stopped; colors, which writes escape sequences, too; print and nothing, which leave no output, and nothing
# writes nothing at all; eat, which uses 100 MB for 2 seconds; killed; usage, which takes none of its arguments.
if [ "$1" = nothing ]; then exit 0; fi
echo "out of $2"
echo "err of $2" >&2
if [ "$1" = colors ]; then printf '\033[32mgreen\033[0m \033]0;title\007\n'; fi
if [ "$1" = print ]; then exit 0; fi
if [ "$1" = eat ]; then python3 -c 'import time; x = b"x" * 90_000_000; time.sleep(2)'; fi
if [ "$1" = usage ]; then echo "Usage: tool INPUT" >&2; exit 2; fi
if [ "$1" = killed ]; then kill -s KILL $$; fi
if [ "$1" = wait ]; then exec sleep 100; fi
if [ "$1" = fail ] && [ "${NUMBER:-1}" = 1 ]; then exit 4; fi
shift
output=$1
echo "$@" > "$output"
