#!/usr/bin/env bash
# Runs the commands of docs/operations.md as they stand, against the containers of `deploy.sh --docker`.
#
# Run it where the store runs; it asks RICHARDSTORE_PORT (8080) on this machine. Only the port of the commands is replaced.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
readonly root
# Waits in run-books have no end of their own.
readonly limit_seconds=600
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# The blocks marked `sh`, each after a line that says under which heading it stands.
commands() {
  awk '
    /^```/ { if (!inside && $0 == "```sh") { inside = 1; printf "echo %c=== %s%c\n", 39, heading, 39 } else { inside = 0 } next }
    inside { print }
    !inside && /^#/ { sub(/^#+ /, ""); gsub(/\047/, ""); heading = $0 }
  ' "$root/docs/operations.md"
}

commands | sed "s|http://localhost:8080|http://localhost:${RICHARDSTORE_PORT:-8080}|g" >"$work/commands"
grep -q 'decommission' "$work/commands"
printf '#!/bin/sh\nexec "%s/deploy.sh" "$@"\n' "$root" >"$work/deploy.sh"
chmod +x "$work/deploy.sh"
cd "$work"
timeout "$limit_seconds" bash -eu "$work/commands" || {
  echo "a run-book failed: the last heading above says which"
  exit 1
}
