# Fetches URL into the folder ARCHIVE, checks it against SHA256, and unpacks it into TO. What is already there and whole is kept,
# what is there by half is begun again: the marker with the sum is written last.
set -eu
marker="$TO/.complete"
if [ -f "$marker" ] && [ "$(cat "$marker")" = "$SHA256" ]; then
  echo "already there: $SHA256"
  exit 0
fi
find "$TO" "$ARCHIVE" -mindepth 1 -maxdepth 1 ! -name lost+found -exec rm -rf {} +
archive="$ARCHIVE/archive"
# One time for all tries together: a limit of curl's own would begin anew with each.
timeout "$TIMEOUT_SECONDS" curl --fail --silent --show-error --location --retry 3 --connect-timeout 10 --output "$archive" "$URL" || {
  echo "nothing was fetched: curl ended with $? (124 or 143 is the end of download.timeoutSeconds, $TIMEOUT_SECONDS)" >&2
  rm -f "$archive"
  exit 1
}
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
