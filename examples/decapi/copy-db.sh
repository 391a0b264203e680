#!/bin/sh
# Copies the database of OLD_DSN to NEW_DSN, whole or not at all.
set -eu
pg_dump --clean --if-exists --no-owner -f dump.sql "$OLD_DSN"
psql -q -X --single-transaction -v ON_ERROR_STOP=1 -o /dev/null -f dump.sql "$NEW_DSN"
