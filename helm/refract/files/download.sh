# Fetches URL, checks it against SHA256, and unpacks it into TO. What is already there and whole is kept, what is there
# by half is begun again: the marker with the sum is written last.
set -eu
marker="$TO/.complete"
if [ -f "$marker" ] && [ "$(cat "$marker")" = "$SHA256" ]; then
  echo "already there: $SHA256"
  exit 0
fi
find "$TO" -mindepth 1 -maxdepth 1 ! -name lost+found -exec rm -rf {} +
archive="$TO/.archive"
curl --fail --silent --show-error --location --retry 3 --connect-timeout 10 --max-time "$TIMEOUT_SECONDS" --output "$archive" "$URL"
got="$(sha256sum "$archive" | cut -d ' ' -f 1)"
if [ "$got" != "$SHA256" ]; then
  rm -f "$archive"
  echo "the file's SHA-256 is $got, not $SHA256: nothing is unpacked" >&2
  exit 1
fi
case "$URL" in
  *.tar.gz | *.tgz) tar -xzf "$archive" -C "$TO" ;;
  *) tar -xf "$archive" -C "$TO" ;;
esac
rm -f "$archive"
printf '%s' "$SHA256" >"$marker"
