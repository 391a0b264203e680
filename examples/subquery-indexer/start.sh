#!/bin/sh
# start.sh main|backup: starts that indexer, unless it is up; never while the other one is. Returns when its ports are open.
set -eu
side=$1
[ -e "$side.pid" ] && exit 0
for other in main backup; do
	[ ! -e "$other.pid" ] || { echo "$side not started: $other is up" >&2; exit 1; }
done
case $side in
main) coordinator=$MAIN_COORDINATOR query=$MAIN_QUERY p2p=$MAIN_P2P ;;
backup) coordinator=$BACKUP_COORDINATOR query=$BACKUP_QUERY p2p=$BACKUP_P2P ;;
esac
setsid "$INDEXER" -name "$side" -coordinator "$coordinator" -query "$query" -p2p "$p2p" -data "$side.data" \
	-pid "$side.pid" -record "$side.record" >>"$side.log" 2>&1 </dev/null &
until [ -e "$side.pid" ]; do
	kill -0 $! 2>/dev/null || { tail -n 1 "$side.log" >&2; exit 1; }
	sleep 0.05
done
