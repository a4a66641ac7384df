#!/bin/sh
# Writes a workspace with our manifests and empty sources: what cargo needs to compile the libraries before it sees a line of
# our code. Whatever a manifest names by path is there, empty.
#
#   stub-sources.sh SOURCE TARGET
set -eu
source=$1
target=$2
cd "$source"
find . -name target -prune -o \( -name Cargo.toml -o -name Cargo.lock \) -print | while read -r file; do
  mkdir -p "$target/$(dirname "$file")"
  cp "$file" "$target/$file"
done
cd "$target"
find . -name Cargo.toml | while read -r manifest; do
  grep -q '^\[package\]' "$manifest" || continue
  crate=$(dirname "$manifest")
  mkdir -p "$crate/src"
  : >"$crate/src/lib.rs"
  [ -f "$source/$crate/src/main.rs" ] && echo 'fn main() {}' >"$crate/src/main.rs"
  [ -f "$source/$crate/build.rs" ] && echo 'fn main() {}' >"$crate/build.rs"
  sed -n 's/^path = "\(.*\.rs\)"$/\1/p' "$manifest" | while read -r named; do
    mkdir -p "$crate/$(dirname "$named")"
    echo 'fn main() {}' >"$crate/$named"
  done
  # [[bench]], [[example]] and [[test]] without a path stand where cargo looks for them.
  sed -n '/^\[\[\(bench\|example\|test\)\]\]/,/^name/s/^\(\[\[\(.*\)\]\]\|name = "\(.*\)"\)$/\2\3/p' "$manifest" | while read -r kind && read -r name; do
    folder=$kind
    case $kind in bench) folder=benches ;; example) folder=examples ;; test) folder=tests ;; esac
    mkdir -p "$crate/$folder"
    echo 'fn main() {}' >"$crate/$folder/$name.rs"
  done
  # A crate with a program and no library needs no lib.rs, and one that has none must not be given one.
  [ -f "$source/$crate/src/lib.rs" ] || rm -f "$crate/src/lib.rs"
done
# Equal manifests are an equal layer, whenever they were copied.
find . -exec touch -h -d "@${SOURCE_DATE_EPOCH:-0}" {} +
