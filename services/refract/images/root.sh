#!/bin/sh
# Gathers what a program needs of a system to run without one: the libraries it is linked with, a user, name resolution.
#
#   root.sh PROGRAM TARGET
set -eu
program=$1
target=$2
mkdir -p "$target/etc" "$target/tmp"
chmod 1777 "$target/tmp"
ldd "$program" | sed -n 's/^.*[[:space:]]\(\/[^ ]*\) (0x.*$/\1/p' | sort -u | while read -r library; do
  mkdir -p "$target$(dirname "$library")"
  cp -L "$library" "$target$library"
done
echo 'refract:x:65532:65532:refract:/:/sbin/nologin' >"$target/etc/passwd"
echo 'refract:x:65532:' >"$target/etc/group"
echo 'hosts: files dns' >"$target/etc/nsswitch.conf"
# One time for all: the layer's bytes depend on its content alone.
find "$target" -exec touch -h -d "@${SOURCE_DATE_EPOCH:-0}" {} +
