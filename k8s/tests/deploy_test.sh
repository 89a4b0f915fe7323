#!/usr/bin/env bash
# What deploy.sh tells k3d, kubectl and docker to do, seen by stand-ins that write down how they were called.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly here
work="$(mktemp -d)"
readonly work
trap 'rm -rf "$work"' EXIT
export WORK="$work" CALLS="$work/calls"

# One stand-in under all names. Files in $WORK say how the world is: cluster (it exists), context (kubectl knows it),
# stopped (its API server is away), no_rollout, wrong_bytes, not_ready.
make_stand_ins() {
  mkdir "$work/bin"
  cat >"$work/bin/stand-in" <<'STANDIN'
#!/usr/bin/env bash
set -euo pipefail
tool="$(basename "$0")"
printf '%s %s\n' "$tool" "$*" >>"$CALLS"
is() { [ -e "$WORK/$1" ]; }
case "$tool $*" in
  "docker image inspect --format {{.Id}}"*) echo "sha256:0123456789abcdef0123" ;;
  "docker image inspect --format {{.Size}}"*) echo 20000000 ;;
  "docker compose version") is compose ;;
  "docker port k3d-dfs-cluster-serverlb 8080/tcp") printf '0.0.0.0:%s\n[::]:%s\n' "$(cat "$WORK/port")" "$(cat "$WORK/port")" ;;
  "docker-compose"*) cp "${@:4:1}" "$WORK/compose-file" 2>/dev/null || true ;;
  "k3d cluster list"*) is cluster ;;
  "k3d cluster create"*) touch "$WORK/cluster" "$WORK/context" ;;
  "k3d cluster start"*) rm -f "$WORK/stopped" ;;
  "k3d cluster delete"*) rm -f "$WORK/cluster" ;;
  "kubectl config get-contexts"*) is context ;;
  *"get --raw /readyz"*) ! is stopped ;;
  "kubectl kustomize"*) printf '          image: richardstore:dev\n' ;;
  *"apply -f -") cat >"$WORK/applied" ;;
  *"rollout status"*) ! is no_rollout ;;
  "curl"*"/readyz") ! is not_ready ;;
  "curl"*"/upload")
    for argument in "$@"; do
      case "$argument" in file=@*) cp "${argument#file=@}" "$WORK/stored" ;; esac
    done
    printf '{"hash":"%064d","size":1048576,"replicas":3}' 7
    ;;
  "curl"*"/download?hash="*)
    is wrong_bytes && echo wrong >"$WORK/stored"
    while [ "$1" != --output ]; do shift; done
    cp "$WORK/stored" "$2"
    ;;
esac
STANDIN
  chmod +x "$work/bin/stand-in"
  for tool in docker docker-compose k3d kubectl curl; do ln -s stand-in "$work/bin/$tool"; done
  # Everything else that the scripts call is the system's, without what may be installed beside it.
  mkdir "$work/system"
  for tool in bash cat chmod cmp cp basename dirname env head mkdir mktemp rm sed sleep strip timeout touch uname; do
    ln -s "$(command -v "$tool")" "$work/system/$tool"
  done
}

fresh() {
  rm -f "$work"/{binary,cluster,context,stopped,compose,no_rollout,wrong_bytes,not_ready,stored,applied,compose-file} "$CALLS"
  touch "$CALLS" "$work/binary"
  echo 8080 >"$work/port"
}

deploy() {
  env -u RICHARDSTORE_PORT PATH="$work/bin:$work/system" RICHARDSTORE_BINARY="$work/binary" RICHARDSTORE_WAIT_SECONDS=2 \
    "$work/system/bash" "$here/../../deploy.sh" "$@" >"$work/output" 2>&1
}

fail() {
  printf 'FAILED: %s: %s\n--- calls\n' "$current" "$*"
  cat "$CALLS"
  printf -- '--- output\n'
  cat "$work/output"
  exit 1
}
expect() { grep -qxF -- "$1" "$CALLS" || fail "was not called: $1"; }
expect_none() { ! grep -qF -- "$1" "$CALLS" || fail "was called: $1"; }
expect_output() { grep -qF -- "$1" "$work/output" || fail "did not say: $1"; }
fails() { ! deploy "$@" || fail "succeeded"; }

test_up_makes_the_cluster_and_everything_in_it() {
  deploy || fail "failed"
  expect "k3d cluster create dfs-cluster --servers 1 --agents 3 --port 8080:8080@loadbalancer --k3s-arg --disable=traefik@server:0 --wait --timeout 2s"
  expect "k3d image import --cluster dfs-cluster richardstore:dev-0123456789ab"
  expect "kubectl --context k3d-dfs-cluster --namespace richardstore apply -f -"
  grep -qx ' *image: richardstore:dev-0123456789ab' "$work/applied" || fail "applied another image"
  for workload in statefulset/namenode statefulset/datanode deployment/gateway; do
    expect "kubectl --context k3d-dfs-cluster --namespace richardstore rollout status $workload --timeout 2s"
  done
  expect_output "the store is at http://localhost:8080"
}

test_up_again_makes_no_second_cluster() {
  touch "$work/cluster" "$work/context"
  deploy up || fail "failed"
  expect_none "cluster create"
  expect_none "cluster start"
  expect_none "kubeconfig merge"
  expect "k3d image import --cluster dfs-cluster richardstore:dev-0123456789ab"
}

test_up_starts_a_stopped_cluster_and_finds_its_context() {
  touch "$work/cluster" "$work/stopped"
  deploy up || fail "failed"
  expect "k3d kubeconfig merge dfs-cluster --kubeconfig-merge-default"
  expect "k3d cluster start dfs-cluster --wait --timeout 2s"
}

test_up_says_so_where_the_cluster_was_made_for_another_port() {
  touch "$work/cluster" "$work/context"
  echo 18080 >"$work/port"
  fails up
  expect_output "the cluster dfs-cluster does not listen on port 8080"
  expect_output "k3d cluster edit dfs-cluster --port-add 8080:8080@loadbalancer"
  expect_none "image import"
}

test_every_missing_tool_is_named_with_its_source() {
  mv "$work/bin/k3d" "$work/bin/kubectl" "$work"
  if deploy up; then status=0; else status=$?; fi
  mv "$work/k3d" "$work/kubectl" "$work/bin"
  [ "$status" -eq 1 ] || fail "ended with $status"
  expect_output "k3d is missing: https://k3d.io"
  expect_output "kubectl is missing: https://kubernetes.io"
}

test_a_rollout_that_hangs_ends_with_what_the_pods_say() {
  touch "$work/no_rollout"
  fails up
  expect "kubectl --context k3d-dfs-cluster --namespace richardstore get pods -o wide"
  expect_output "statefulset/namenode is not up after 2 s"
}

test_a_gateway_that_never_is_ready_ends_the_wait() {
  touch "$work/not_ready"
  fails up
  expect_output "http://localhost:8080 is not ready after 2 s"
}

test_wrong_bytes_fail_the_smoke_test() {
  touch "$work/wrong_bytes"
  fails smoke
  expect_output "came back with other bytes"
}

test_down_keeps_the_files_unless_told_otherwise() {
  touch "$work/cluster"
  deploy down || fail "failed"
  expect "k3d cluster stop dfs-cluster"
  expect_none "cluster delete"
  deploy down --volumes || fail "failed"
  expect "k3d cluster delete dfs-cluster"
  deploy down || fail "is not idempotent"
}

test_docker_uses_the_plugin_where_it_is() {
  touch "$work/compose"
  deploy --docker || fail "failed"
  grep -qx 'docker compose --project-name richardstore --file .*/k8s/compose.yaml up --detach' "$CALLS" || fail "no compose up"
  expect_none "k3d"
  expect_output "the store is at http://localhost:8080"
}

test_docker_goes_without_the_plugin() {
  deploy --docker up || fail "failed"
  grep -q '^docker-compose --project-name richardstore --file .*/compose.yaml up --detach$' "$CALLS" || fail "no docker-compose up"
  grep -q '^services:' "$work/compose-file" || fail "no services"
  ! grep -q '^name:' "$work/compose-file" || fail "version 1 knows no name"
}

test_a_drill_is_held_on_the_cluster_that_was_made() {
  ln -sf bin/stand-in "$work/binary"
  deploy drill bit-rot || fail "failed"
  expect "binary drill bit-rot --on k8s --context k3d-dfs-cluster --gateway http://localhost:8080"
  deploy --docker drill all --json || fail "failed"
  expect "binary drill all --json --on docker --project richardstore --gateway http://localhost:8080"
}

test_the_context_of_the_image_holds_every_member_of_the_workspace() {
  local root="$here/../.." member
  for member in $(sed -n 's/^members = \[\(.*\)\]$/\1/p' "$root/Cargo.toml" | tr -d '",'); do
    echo "$member" >>"$CALLS"
    grep -qxF "!${member%%/*}" "$root/.dockerignore" || fail ".dockerignore leaves out $member: the image could not be built from source"
  done
  [ "$(wc -l <"$CALLS")" -gt 5 ] || fail "found no members"
}

test_an_unknown_command_is_wrong_usage() {
  if deploy sideways; then status=0; else status=$?; fi
  [ "$status" -eq 2 ] || fail "ended with $status"
  expect_output "usage:"
}

make_stand_ins
for current in $(declare -F | sed -n 's/^declare -f \(test_.*\)$/\1/p'); do
  fresh
  "$current"
  printf 'ok %s\n' "$current"
done
