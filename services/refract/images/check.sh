#!/bin/sh
# Builds the whole Containerfile.cpu, runs the demo in what comes out, and looks at what is in it. For speed of checking the
# program is compiled less well than the shipped one (OPT_LEVEL, LTO); everything else is the recipe as it stands.
#
#   check.sh [BUILDER]      BUILDER is an image with Rust; without one, builder.sh makes it (root, debootstrap; minutes, once)
#
# Needs buildah, python3. The image stays as refract-check.
set -eu
images=$(cd "$(dirname "$0")" && pwd)
cd "$images/../../.."
export BUILDAH_ISOLATION="${BUILDAH_ISOLATION:-chroot}"
builder=${1:-localhost/refract-builder:check}
if [ $# = 0 ] && ! buildah inspect --type image "$builder" >/dev/null 2>&1; then
  echo "    making a builder (once; minutes)"
  sh "$images/builder.sh" "$builder" >/dev/null
fi
buildah build --quiet --layers --timestamp 0 --ignorefile "$images/Containerfile.cpu.dockerignore" -f "$images/Containerfile.cpu" \
  --build-arg "BUILDER=$builder" --build-arg "OPT_LEVEL=${OPT_LEVEL:-1}" --build-arg "LTO=${LTO:-off}" -t refract-check . </dev/null >/dev/null
container=$(buildah from refract-check)
trap 'buildah rm "$container" >/dev/null' EXIT
root=$(buildah mount "$container")
wrong=0
complain() {
  echo "    $*"
  wrong=1
}
# Everything that could be run but is not ours.
strangers=$(find "$root" -xdev -type f -perm -u+x ! -path '*/usr/bin/refract' ! -name '*.so*' | sed "s#^$root##")
[ -z "$strangers" ] || complain "more programs than ours: $strangers"
[ "$(buildah inspect --format '{{.OCIv1.Config.User}}' "$container")" = 65532:65532 ] || complain "it does not run as 65532"
bill=$(mktemp)
python3 "$images/sbom.py" "$root" refract-check >"$bill" || complain "no bill of materials"
for part in tonic candle-core tokenizers libc6 ca-certificates; do
  grep -q "\"name\": \"$part\"" "$bill" || complain "the bill of materials has not $part"
done
echo "    $(grep -c '"versionInfo"' "$bill") parts in the bill of materials, $(du -sm "$root" | cut -f 1) MiB"
rm -f "$bill"
buildah run "$container" -- /usr/bin/refract demo --user noir-and-heists --limit 1 </dev/null || complain "the demo does not run in it"
exit $wrong
