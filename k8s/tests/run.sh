#!/usr/bin/env bash
# Renders every overlay, validates it against the API schemas, checks it against the policy, and tests deploy.sh.
#
#   k8s/tests/run.sh       needs shellcheck, python3 with venv, and kubectl or kustomize, or go to build kustomize with
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly here
readonly tools="${K8S_TOOLS:-$here/../../target/k8s-tools}"
# The newest kustomize that Go 1.19 builds, which is what Debian 12 has.
readonly kustomize_version=v5.0.3 validate_version=1.37.0
# Downloads and compiles; what takes longer is stuck.
readonly setup_seconds=600

die() { printf 'k8s/tests: %s\n' "$*" >&2; exit 1; }

# Debian 12 has a kubectl of 2020, whose kustomize knows no components: what can render is found by trying.
renderer=()
choose_renderer() {
  local candidate
  for candidate in "kubectl kustomize" "kustomize build" "$tools/bin/kustomize build"; do
    read -ra renderer <<<"$candidate"
    if command -v "${renderer[0]}" >/dev/null && "${renderer[@]}" "$here/everything" >/dev/null 2>&1; then
      return
    fi
  done
  command -v go >/dev/null || die "no kubectl or kustomize here renders k8s/tests/everything, and there is no go to build one with"
  GOBIN="$tools/bin" timeout "$setup_seconds" go install "sigs.k8s.io/kustomize/kustomize/v5@$kustomize_version"
  renderer=("$tools/bin/kustomize" build)
}

choose_python() {
  python="$tools/venv/bin/python"
  if ! "$python" -c 'import kubernetes_validate, yaml' 2>/dev/null; then
    python3 -m venv "$tools/venv"
    timeout "$setup_seconds" "$tools/venv/bin/pip" install --quiet --disable-pip-version-check "kubernetes-validate==$validate_version"
  fi
}

shellcheck "$here"/../../deploy.sh "$here"/../../.ci/* "$here"/../*.sh "$here"/*.sh
"$here/deploy_test.sh"
mkdir -p "$tools/rendered"
choose_renderer
choose_python
for overlay in "$here"/../overlays/* "$here/everything"; do
  "${renderer[@]}" "$overlay" >"$tools/rendered/$(basename "$overlay").yaml"
done
"$python" "$here/validate.py" "$tools"/rendered/*.yaml "$here/../restore.yaml" "$here/../migrate.yaml"
RENDERED="$tools/rendered" "$python" "$here/policy_test.py"
