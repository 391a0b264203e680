#!/bin/sh
# Stops the node of the side $TO and starts $VERSION there. Returns when its port is open; whether it is ready is for
# the gate to say.
set -eu
case $TO in blue) listen=$BLUE ;; green) listen=$GREEN ;; esac
if [ -e "$TO.pid" ]; then
	pid=$(cat "$TO.pid")
	kill "$pid" 2>/dev/null || true
	while [ -e "$TO.pid" ] && kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
	rm -f "$TO.pid"
fi
setsid "$NODE" -name "$TO" -version "$VERSION" -fault "$FAULT" -listen "$listen" -postgres "$PG_DSN" -redis "$REDIS" \
	-pid "$TO.pid" -record "$TO.record" >>"$TO.log" 2>&1 </dev/null &
until [ -e "$TO.pid" ]; do
	kill -0 $! 2>/dev/null || { tail -n 1 "$TO.log" >&2; exit 1; }
	sleep 0.05
done
