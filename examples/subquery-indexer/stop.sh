#!/bin/sh
# stop.sh main|backup: stops that indexer. Returns when it is down.
set -eu
[ -e "$1.pid" ] || exit 0
pid=$(cat "$1.pid")
kill "$pid" 2>/dev/null || rm -f "$1.pid"
while [ -e "$1.pid" ] && kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
rm -f "$1.pid"
