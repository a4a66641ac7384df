#!/bin/sh
# Gathers what a program needs of a system to run without one: the libraries it is linked with, a user, name resolution,
# certificate authorities; and for scanners and bills of materials the records of the packages that these are from.
#
#   root.sh PROGRAM TARGET
set -eu
program=$1
target=$2
mkdir -p "$target/etc" "$target/tmp" "$target/var/lib/dpkg/status.d"
chmod 1777 "$target/tmp"
cp /etc/os-release "$target/etc/os-release"
# (From glibc 2.34 on, name resolution is in the C library itself.)
ldd "$program" | sed -n 's/^.*[[:space:]]\(\/[^ ]*\) (0x.*$/\1/p' | sort -u | while read -r library; do
  mkdir -p "$target$(dirname "$library")"
  cp -L "$library" "$target$library"
  # Where folders are links to others, the package may know the file by its real path only.
  package=$(dpkg -S "$library" 2>/dev/null || dpkg -S "$(readlink -f "$library")" 2>/dev/null) || continue
  package=${package%%: *}
  dpkg-query --status "$package" >"$target/var/lib/dpkg/status.d/${package%%:*}"
done
# The distribution's authorities, not whatever else this machine trusts: for stores (`rediss://`) and endpoints over TLS.
if [ -d /usr/share/ca-certificates/mozilla ]; then
  mkdir -p "$target/etc/ssl/certs"
  cat /usr/share/ca-certificates/mozilla/*.crt >"$target/etc/ssl/certs/ca-certificates.crt"
  dpkg-query --status ca-certificates >"$target/var/lib/dpkg/status.d/ca-certificates"
fi
echo 'refract:x:65532:65532:refract:/:/sbin/nologin' >"$target/etc/passwd"
echo 'refract:x:65532:' >"$target/etc/group"
echo 'hosts: files dns' >"$target/etc/nsswitch.conf"
# One time for all: the layer's bytes depend on its content alone.
find "$target" -exec touch -h -d "@${SOURCE_DATE_EPOCH:-0}" {} +
