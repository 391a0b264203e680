#!/bin/sh
# redis.sh follow: the new Redis copies the old one, and goes on doing so. redis.sh promote: it has everything, and is the
# master from now on. Nobody writes meanwhile: the door has drained the old one.
set -eu
old() { redis-cli -h "${OLD_REDIS%:*}" -p "${OLD_REDIS#*:}" "$@"; }
new() { redis-cli -h "${NEW_REDIS%:*}" -p "${NEW_REDIS#*:}" "$@"; }
field() { tr -d '\r' | sed -n "s/^$1://p"; }
case $1 in
follow)
	new replicaof "${OLD_REDIS%:*}" "${OLD_REDIS#*:}" >/dev/null
	until [ "$(new info replication | field master_link_status)" = up ]; do sleep 0.1; done
	;;
promote)
	end=$(old info replication | field master_repl_offset)
	until [ "$(new info replication | field slave_repl_offset)" -ge "$end" ]; do sleep 0.02; done
	new replicaof no one >/dev/null
	;;
esac
