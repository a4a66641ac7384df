#!/bin/sh
# Makes the image in which Containerfile.cpu compiles, where no registry is in reach: Debian by debootstrap, a C compiler,
# and this machine's Rust. Elsewhere any image with Rust does, by `--build-arg BUILDER=…`.
#
#   builder.sh TAG
#
# Needs root, debootstrap, buildah, rustc; REFRACT_DEBIAN names the release (its glibc is the oldest that the image runs on).
set -eu
tag=$1
export BUILDAH_ISOLATION="${BUILDAH_ISOLATION:-chroot}"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
debootstrap --variant=minbase --include=gcc,libc6-dev,ca-certificates "${REFRACT_DEBIAN:-bookworm}" "$scratch/root"
rm -rf "$scratch/root/var/cache/apt/archives" "$scratch/root/var/lib/apt/lists" "$scratch/root/usr/share/doc" "$scratch/root/usr/share/man"
# What this machine trusts, so that a proxy in front of the crates is trusted too.
[ ! -f /etc/ssl/certs/ca-certificates.crt ] || cp -L /etc/ssl/certs/ca-certificates.crt "$scratch/root/etc/ssl/certs/"
rust=$(rustc --print sysroot)
mkdir -p "$scratch/root/usr/local/rust/lib/rustlib"
cp -R "$rust/bin" "$scratch/root/usr/local/rust/"
cp -R "$rust"/lib/*.so* "$scratch/root/usr/local/rust/lib/"
host=$(rustc -vV | sed -n 's/^host: //p')
cp -R "$rust/lib/rustlib/$host" "$scratch/root/usr/local/rust/lib/rustlib/"
[ ! -d "$rust/libexec" ] || cp -R "$rust/libexec" "$scratch/root/usr/local/rust/"
find "$scratch/root" -xdev -exec touch -h -d "@${SOURCE_DATE_EPOCH:-0}" {} +
container=$(buildah from scratch)
buildah copy -q "$container" "$scratch/root" / >/dev/null
buildah config --env PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin --env CARGO_HOME=/usr/local/cargo "$container"
buildah commit -q --timestamp "${SOURCE_DATE_EPOCH:-0}" "$container" "$tag" >/dev/null
buildah rm "$container" >/dev/null
