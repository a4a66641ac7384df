#!/bin/sh
# Makes the image's last stage from a program that is already built here: no base, no registry, no compiler in the image.
# With `--try` it then runs the demo in the image and throws the image away.
#
#   assemble.sh PROGRAM TAG [--try]
#
# Needs buildah. The program must have been built on the C library that the image will carry: this system's.
set -eu
program=$1
tag=$2
images=$(cd "$(dirname "$0")" && pwd)
export BUILDAH_ISOLATION="${BUILDAH_ISOLATION:-chroot}" STORAGE_DRIVER="${STORAGE_DRIVER:-vfs}"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch/root/usr/bin" "$scratch/root/usr/share/refract"
cp "$program" "$scratch/root/usr/bin/refract"
strip "$scratch/root/usr/bin/refract"
cp -R "$images/../demo" "$scratch/root/usr/share/refract/demo"
sh "$images/root.sh" "$scratch/root/usr/bin/refract" "$scratch/root"
# The last stage as Containerfile.cpu has it, with everything from one folder.
{
  echo 'FROM scratch'
  echo 'COPY root/ /'
  sed -n '/^FROM scratch/,$p' "$images/Containerfile.cpu" | grep -E '^(USER|EXPOSE|ENTRYPOINT|CMD)'
} >"$scratch/Containerfile"
buildah build --quiet --timestamp "${SOURCE_DATE_EPOCH:-0}" -f "$scratch/Containerfile" -t "$tag" "$scratch"
[ "${3:-}" = --try ] || exit 0
container=$(buildah from "$tag")
result=0
buildah run "$container" -- /usr/bin/refract demo --user noir-and-heists --limit 1 || result=$?
buildah rm "$container" >/dev/null
buildah rmi "$tag" >/dev/null
exit $result
