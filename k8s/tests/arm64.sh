#!/usr/bin/env bash
# The store on arm64, on a machine that has none: compiled for it, its instructions emulated by qemu, in the layout of
# k8s/compose.yaml, with two drills.
#
#   k8s/tests/arm64.sh [BINARY]     BINARY: a static one for arm64 that is there already
#
# Needs root, Docker that runs, a Linux target of rustup, and of Debian gcc-aarch64-linux-gnu, libc6-dev-arm64-cross,
# qemu-user-static and binfmt-support. Not part of .ci/run, which would take ten minutes more for it.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
readonly root
readonly triple=aarch64-unknown-linux-gnu
readonly url="http://localhost:${RICHARDSTORE_PORT:=18080}"
work="$(mktemp -d)"
readonly work
export RICHARDSTORE_PORT RICHARDSTORE_BINARY="$work/richardstore" RICHARDSTORE_WAIT_SECONDS=240

# Everything of that name is removed at the end.
if [ -n "$(docker ps --all --quiet --filter name=^richardstore-)$(docker volume ls --quiet --filter name=^richardstore-)" ]; then
  echo "there are containers or volumes of a store here already: deploy.sh --docker down --volumes deletes them"
  rm -rf "$work"
  exit 1
fi
clean_up() {
  timeout 120 "$root/deploy.sh" --docker down --volumes >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap clean_up EXIT

binary="${1:-}"
if [ -z "$binary" ]; then
  rustup target add "$triple"
  target="${CARGO_TARGET_DIR:-$root/target}"
  (cd "$root" && CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc RUSTFLAGS="-C target-feature=+crt-static" \
    cargo build --release --locked --target "$triple" --package richardstore)
  binary="$target/$triple/release/richardstore"
fi
# Containers see only what is in them, so the kernel has to have the emulator open: the F in Debian's registration.
mountpoint -q /proc/sys/fs/binfmt_misc || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
update-binfmts --enable qemu-aarch64
aarch64-linux-gnu-strip -o "$RICHARDSTORE_BINARY" "$binary"
file --brief "$RICHARDSTORE_BINARY" | grep -q 'ARM aarch64'

timeout 600 "$root/deploy.sh" --docker up
head -c 3000000 /dev/urandom >"$work/sent"
hash="$(curl --silent --fail --max-time 60 --data-binary "@$work/sent" "$url/files" | jq -r .hash)"
[ "$hash" = "$(sha256sum "$work/sent" | cut -d' ' -f1)" ]
curl --silent --fail --max-time 60 "$url/files/$hash" | cmp - "$work/sent"
for drill in namenode-kill-under-load bit-rot; do
  timeout 600 "$root/deploy.sh" --docker drill "$drill"
done
