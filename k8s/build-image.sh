#!/usr/bin/env bash
# Builds the image richardstore:dev.
#
#   k8s/build-image.sh             from source in a container; with cargo where the compiler's image cannot be pulled
#   k8s/build-image.sh BINARY      from a static Linux binary that is there already
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
readonly root
readonly image="${RICHARDSTORE_IMAGE:-richardstore:dev}"
readonly most_bytes=25000000
# Compiling takes ten minutes on two cores; a pull that takes longer than this is stuck.
readonly compile_seconds=3600 pull_seconds=600

say() { printf '%s\n' "$*" >&2; }
die() { say "build-image: $*"; exit 1; }

# bounded SECONDS COMMAND...: macOS has no timeout(1), but perl.
bounded() {
  if command -v timeout >/dev/null; then
    timeout "$@"
  else
    perl -e 'alarm shift; exec @ARGV or exit 127' "$@"
  fi
}

# The compiler's image is named in one place only.
compiler_image() { sed -n 's/^FROM \(rust:[^ ]*\) AS build$/\1/p' "$root/k8s/Dockerfile"; }

from_binary() {
  local binary="$1" context
  [ -f "$binary" ] || die "no such file: $binary"
  context="$(mktemp -d)"
  # shellcheck disable=SC2064 # the directory is known now and gone from scope then
  trap "rm -rf '$context'" EXIT
  mkdir "$context/data"
  # Symbols are a fifth of it, line tables three times as much; a panic names its line without either.
  strip -o "$context/richardstore" "$binary" 2>/dev/null || cp "$binary" "$context/richardstore"
  chmod 0755 "$context/richardstore"
  bounded "$pull_seconds" docker build --quiet -f "$root/k8s/Dockerfile" --target prebuilt -t "$image" "$context" >/dev/null
}

from_cargo() {
  local host target
  command -v cargo >/dev/null || die "neither can $(compiler_image) be pulled nor is cargo here: https://rustup.rs"
  [ "$(uname -s)" = Linux ] || die "a binary made on $(uname -s) does not run in a container; let docker reach its registry"
  host="$(rustc -vV | sed -n 's/^host: //p')"
  target="${CARGO_TARGET_DIR:-$root/target}"
  (cd "$root" && RUSTFLAGS="-C target-feature=+crt-static" \
    bounded "$compile_seconds" cargo build --release --locked --target "$host" --package richardstore)
  from_binary "$target/$host/release/richardstore"
}

check() {
  local bytes
  bytes="$(docker image inspect --format '{{.Size}}' "$image")"
  [ "$bytes" -lt "$most_bytes" ] || die "$image has $bytes bytes, which is not less than $most_bytes"
  # A binary that needs a loader or the host's libraries fails here and not in a cluster.
  bounded 60 docker run --rm --read-only --network none "$image" --version >/dev/null ||
    die "the binary does not run without a system around it; it has to be static"
  say "$image: $bytes bytes"
}

command -v docker >/dev/null || die "docker is missing: https://docs.docker.com/engine/install/"
if [ "$#" -gt 0 ]; then
  from_binary "$1"
elif docker image inspect "$(compiler_image)" >/dev/null 2>&1 ||
  bounded "$pull_seconds" docker pull --quiet "$(compiler_image)" >/dev/null; then
  bounded "$compile_seconds" docker build -f "$root/k8s/Dockerfile" -t "$image" "$root"
else
  say "$(compiler_image) cannot be pulled: compiling here"
  from_cargo
fi
check
