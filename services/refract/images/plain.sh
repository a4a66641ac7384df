#!/bin/sh
# Copies a folder with rights and times that do not depend on who checked it out, or when.
#
#   plain.sh FROM TO
set -eu
cp -R "$1" "$2"
chmod -R u=rwX,go=rX "$2"
find "$2" -exec touch -h -d "@${SOURCE_DATE_EPOCH:-0}" {} +
