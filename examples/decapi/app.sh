#!/bin/sh
# app.sh NAME DSN: starts that application server on a database; stops it first when it is up.
set -eu
case $1 in app1) listen=$APP1 ;; app2) listen=$APP2 ;; app3) listen=$APP3 ;; esac
if [ -e "$1.pid" ]; then
	pid=$(cat "$1.pid")
	kill "$pid" 2>/dev/null || true
	while [ -e "$1.pid" ] && kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
	rm -f "$1.pid"
fi
setsid "$APP" -name "$1" -listen "$listen" -postgres "$2" -redis "$CACHE" -pid "$1.pid" >>"$1.log" 2>&1 </dev/null &
until [ -e "$1.pid" ]; do
	kill -0 $! 2>/dev/null || { tail -n 1 "$1.log" >&2; exit 1; }
	sleep 0.05
done
(umask 077; printf '%s\n' "$2" >"$1.dsn") # which database it is on
