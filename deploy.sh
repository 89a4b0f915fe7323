#!/usr/bin/env bash
# Runs the store on this machine: in a k3d cluster, or with --docker in containers without Kubernetes.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly root
readonly cluster=dfs-cluster namespace=richardstore image=richardstore:dev
readonly context="k3d-$cluster"
readonly port="${RICHARDSTORE_PORT:-8080}"
readonly url="http://localhost:$port"
# Nothing here waits longer than this for one thing to happen.
readonly wait_seconds="${RICHARDSTORE_WAIT_SECONDS:-300}"
export RICHARDSTORE_PORT="$port" COMPOSE_PROJECT_NAME=richardstore

usage() {
  cat <<'TEXT'
usage: ./deploy.sh [--docker] [COMMAND]

  up            builds the image, starts the store, waits until it works, tries it, prints its URL (the default)
  smoke         uploads a file, downloads it again, compares
  drill NAME    makes a fault on purpose and counts what was lost; `all` runs every drill
  status        what runs, and how the store says it is
  logs          of all roles; what follows is passed on (-f follows)
  down          stops everything and keeps the files; `down --volumes` deletes them, too

  --docker      containers on a Docker network instead of a k3d cluster

RICHARDSTORE_PORT       port on this machine, 8080 by default
RICHARDSTORE_BINARY     a static Linux binary to make the image of, instead of compiling one
RICHARDSTORE_WAIT_SECONDS   longest wait for one thing, 300 by default
RICHARDSTORE_COMPOSE_OVERRIDE   with --docker: a second compose file, whose settings win
TEXT
}

say() { printf '%s\n' "$*"; }
die() { printf 'deploy.sh: %s\n' "$*" >&2; exit 1; }

# bounded SECONDS COMMAND...: macOS has no timeout(1), but perl.
bounded() {
  if command -v timeout >/dev/null; then
    timeout "$@"
  else
    perl -e 'alarm shift; exec @ARGV or exit 127' "$@"
  fi
}

kubectl_here() { bounded "$((wait_seconds + 30))" kubectl --context "$context" --namespace "$namespace" "$@"; }

# How to get each tool; everything that is missing is said at once.
need() {
  local tool missing=0
  for tool in "$@"; do
    command -v "$tool" >/dev/null && continue
    missing=1
    case "$tool" in
      docker) say "docker is missing: https://docs.docker.com/engine/install/" ;;
      k3d) say "k3d is missing: https://k3d.io/#installation (or try ./deploy.sh --docker)" ;;
      kubectl) say "kubectl is missing: https://kubernetes.io/docs/tasks/tools/" ;;
      *) say "$tool is missing: your system's package $tool" ;;
    esac
  done >&2
  [ "$missing" -eq 0 ] || exit 1
  bounded 30 docker info >/dev/null 2>&1 || die "docker is here, but its engine does not answer: start it, and see \`docker info\`"
}

build() {
  if [ -n "${RICHARDSTORE_BINARY:-}" ]; then
    "$root/k8s/build-image.sh" "$RICHARDSTORE_BINARY"
  else
    "$root/k8s/build-image.sh"
  fi
}

# The binary out of the image, for what runs on this machine.
binary() {
  local container
  if [ -n "${RICHARDSTORE_BINARY:-}" ]; then
    say "$RICHARDSTORE_BINARY"
  elif [ "$(uname -s)" = Linux ]; then
    mkdir -p "$root/target/deploy"
    container="$(bounded 60 docker create "$image")"
    bounded 60 docker cp "$container:/richardstore" "$root/target/deploy/richardstore" >/dev/null
    bounded 60 docker rm "$container" >/dev/null
    say "$root/target/deploy/richardstore"
  else
    (cd "$root" && cargo build --release --locked --quiet) || die "building the store for this machine failed"
    say "$root/target/release/richardstore"
  fi
}

# --- a k3d cluster

ensure_cluster() {
  if ! bounded 60 k3d cluster list "$cluster" >/dev/null 2>&1; then
    # Traefik would take the ports of every node's load balancer; the gateway's own service takes 8080 instead.
    bounded "$((wait_seconds + 60))" k3d cluster create "$cluster" --servers 1 --agents 3 \
      --port "$port:8080@loadbalancer" --k3s-arg '--disable=traefik@server:0' \
      --wait --timeout "${wait_seconds}s" ||
      die "the cluster could not be made; if port $port is taken, choose another with RICHARDSTORE_PORT, and clear what is there with: k3d cluster delete $cluster"
    return
  fi
  if ! bounded 30 kubectl config get-contexts "$context" >/dev/null 2>&1; then
    bounded 60 k3d kubeconfig merge "$cluster" --kubeconfig-merge-default >/dev/null
  fi
  if ! kubectl_here get --raw /readyz --request-timeout 10s >/dev/null 2>&1; then
    bounded "$((wait_seconds + 60))" k3d cluster start "$cluster" --wait --timeout "${wait_seconds}s"
  fi
  # A port is given to a cluster when it is made. One that was made for another, or by hand, would be waited for in vain.
  case "$(bounded 30 docker port "k3d-$cluster-serverlb" 8080/tcp 2>/dev/null || true)" in
    *":$port" | *":$port"$'\n'*) ;;
    *) die "the cluster $cluster does not listen on port $port: name the port that it was made with as RICHARDSTORE_PORT, or add this one with: k3d cluster edit $cluster --port-add $port:8080@loadbalancer" ;;
  esac
}

k3d_up() {
  local id tagged workload
  need docker k3d kubectl curl
  build
  ensure_cluster
  # Named after its content: the same image rolls nothing, another one does.
  id="$(docker image inspect --format '{{.Id}}' "$image")"
  id="${id#sha256:}"
  tagged="richardstore:dev-${id:0:12}"
  docker tag "$image" "$tagged"
  bounded "$wait_seconds" k3d image import --cluster "$cluster" "$tagged"
  kubectl kustomize "$root/k8s/overlays/k3d" | sed "s|image: $image\$|image: $tagged|" | kubectl_here apply -f -
  for workload in statefulset/namenode statefulset/datanode deployment/gateway; do
    kubectl_here rollout status "$workload" --timeout "${wait_seconds}s" || {
      kubectl_here get pods -o wide >&2 || true
      kubectl_here get events --sort-by .lastTimestamp >&2 || true
      die "$workload is not up after $wait_seconds s; see above and ./deploy.sh logs"
    }
  done
  finish_up
}

k3d_status() {
  need docker k3d kubectl curl
  kubectl_here get pods,services,persistentvolumeclaims -o wide
  info
}

k3d_logs() {
  need docker k3d kubectl
  # Not bounded: -f follows for as long as one looks.
  kubectl --context "$context" --namespace "$namespace" logs --selector app.kubernetes.io/name=richardstore \
    --prefix --tail 200 --max-log-requests 20 "$@"
}

k3d_drill() {
  need docker k3d kubectl curl
  local tool
  tool="$(binary)"
  "$tool" drill "$@" --on k8s --context "$context" --gateway "$url"
}

k3d_down() {
  need docker k3d
  if ! bounded 60 k3d cluster list "$cluster" >/dev/null 2>&1; then
    say "there is no cluster $cluster"
  elif [ "${1:-}" = --volumes ]; then
    bounded "$wait_seconds" k3d cluster delete "$cluster"
  else
    bounded "$wait_seconds" k3d cluster stop "$cluster"
    say "stopped; the files are kept for the next ./deploy.sh up. ./deploy.sh down --volumes deletes them"
  fi
}

# --- containers

compose() {
  local more=()
  [ -z "${RICHARDSTORE_COMPOSE_OVERRIDE:-}" ] || more=(--file "$RICHARDSTORE_COMPOSE_OVERRIDE")
  if docker compose version >/dev/null 2>&1; then
    docker compose --project-name richardstore --file "$root/k8s/compose.yaml" ${more[@]+"${more[@]}"} "$@"
  elif docker-compose version >/dev/null 2>&1; then
    # Version 1 knows no `name` and the plugin needs it.
    mkdir -p "$root/target/deploy"
    sed '/^name: /d' "$root/k8s/compose.yaml" >"$root/target/deploy/compose.yaml"
    docker-compose --project-name richardstore --file "$root/target/deploy/compose.yaml" ${more[@]+"${more[@]}"} "$@"
  else
    die "docker compose is missing: https://docs.docker.com/compose/install/ (Debian: docker-compose)"
  fi
}

docker_up() {
  need docker curl
  build
  compose up --detach
  finish_up
}

docker_status() {
  need docker curl
  compose ps
  info
}

docker_logs() {
  need docker
  compose logs --tail 200 "$@"
}

docker_drill() {
  need docker curl
  local tool
  tool="$(binary)"
  "$tool" drill "$@" --on docker --project richardstore --gateway "$url"
}

docker_down() {
  need docker
  compose down "$@"
  [ "${1:-}" = --volumes ] ||
    say "stopped; the files are kept for the next ./deploy.sh --docker up. ./deploy.sh --docker down --volumes deletes them"
}

# --- both

info() { curl --silent --show-error --fail --max-time 10 "$url/info" && echo; }

wait_ready() {
  local until=$((SECONDS + wait_seconds))
  until curl --silent --fail --max-time 5 --output /dev/null "$url/readyz"; do
    [ "$SECONDS" -lt "$until" ] || die "$url is not ready after $wait_seconds s; see ./deploy.sh status and logs"
    sleep 1
  done
}

smoke() {
  local directory answer hash
  directory="$(mktemp -d)"
  # shellcheck disable=SC2064 # the directory is known now and gone from scope then
  trap "rm -rf '$directory'" EXIT
  head -c 1048576 /dev/urandom >"$directory/sent"
  # 503 says that nothing was stored and that it is worth another try: a namenode that has only just started knows no datanode.
  answer="$(curl --silent --show-error --fail --max-time 60 --retry 60 --retry-delay 1 --retry-max-time "$wait_seconds" \
    -F "file=@$directory/sent" "$url/upload")" ||
    die "the upload failed"
  hash="$(sed -n 's/.*"hash" *: *"\([0-9a-f]\{64\}\)".*/\1/p' <<<"$answer")"
  [ -n "$hash" ] || die "the upload was answered without a hash: $answer"
  curl --silent --show-error --fail --max-time 60 --output "$directory/got" "$url/download?hash=$hash" ||
    die "the download of $hash failed"
  cmp "$directory/sent" "$directory/got" || die "$hash came back with other bytes"
  curl --silent --show-error --fail --max-time 60 --output /dev/null --request DELETE "$url/files/$hash" ||
    die "the trial file $hash could not be deleted"
  say "smoke: 1 MiB up, down and the same: $answer"
}

finish_up() {
  wait_ready
  smoke
  say "the store is at $url"
}

main() {
  local on=k3d command
  if [ "${1:-}" = --docker ]; then
    on=docker
    shift
  fi
  command="${1:-up}"
  [ "$#" -eq 0 ] || shift
  case "$command" in
    up | status | logs | down) "${on}_$command" "$@" ;;
    smoke)
      need docker curl
      smoke
      ;;
    drill)
      [ "$#" -gt 0 ] || die "which drill? \`all\` runs every one"
      "${on}_drill" "$@"
      ;;
    help | -h | --help) usage ;;
    *)
      usage >&2
      exit 2
      ;;
  esac
}

main "$@"
