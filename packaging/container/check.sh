#!/usr/bin/env bash
# Builds both images and shows that they work: read-only, without a capability, with TLS and tokens; a reading goes in at the agent
# and comes out at the collector, and the collector's Pod of packaging/kubernetes starts.
#
#   packaging/container/check.sh [build|run|all]        default: all
#
#   BASE=IMAGE      what the Containerfiles build on; by default a Debian 12 made here with debootstrap, so that no registry is needed
#   PROFILE=dist    or release, which compiles faster
#
# Needs root, buildah, podman, crun, catatonit and openssl (and debootstrap). Everything is called telemetryx-check and removed at the end;
# images and compile caches stay.
set -euo pipefail

what=${1:-all}
root=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
profile=${PROFILE:-dist}
base=${BASE:-}
work=$(mktemp -d /var/tmp/telemetryx-check.XXXXXX)
say() { printf '==> %s\n' "$*"; }
fail() { printf 'check: %s\n' "$*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || fail "needs root"
for tool in buildah podman crun catatonit openssl; do
    command -v "$tool" >/dev/null || fail "apt-get install --no-install-recommends buildah podman crun catatonit openssl debootstrap"
done
bud() { buildah --storage-driver vfs "$@"; }
# There is no systemd in here to run health checks by timers, and each container would have podman say so as an error; they are asked for below.
export DISABLE_HC_SYSTEMD=true
pod() { podman --storage-driver vfs --cgroup-manager cgroupfs --runtime crun "$@"; }

# Containers get their cgroups where systemd isn't: in a mount namespace of our own, so that this machine's stay as they are.
if [ -z "${TELEMETRYX_CHECK_INSIDE:-}" ]; then
    rmdir "$work"
    TELEMETRYX_CHECK_INSIDE=1 exec unshare --mount --propagation private "$0" "$@"
fi
mount --rbind /sys /sys
if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi

cleanup() {
    pod rm -f -t 2 telemetryx-check-agent >/dev/null 2>&1 || true
    pod rm -f -t 2 telemetryx-check-collector >/dev/null 2>&1 || true
    pod pod rm -f -t 2 telemetryx-collector-pod-0 >/dev/null 2>&1 || true
    pod volume rm -f telemetryx-check-agent telemetryx-check-collector telemetryx-data telemetryx-collector-hash >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap cleanup EXIT

# --- build

debian() {
    command -v debootstrap >/dev/null || fail "apt-get install debootstrap, or name an image that is there: BASE=…"
    bud images -q localhost/telemetryx-check-base:12 2>/dev/null | grep -q . && { base=localhost/telemetryx-check-base:12; return; }
    say "a bare Debian 12"
    local tree=$work/debian mirror made file
    mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
    debootstrap --variant=minbase bookworm "$tree" "$mirror" >"$work/debootstrap.log" 2>&1 || { tail -n 20 "$work/debootstrap.log" >&2; exit 1; }
    rm -f "$tree/etc/apt/sources.list"
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n' \
        "$mirror" "bookworm bookworm-updates" "$mirror-security" bookworm-security >"$tree/etc/apt/sources.list.d/debian.sources"
    # As debian:12-slim: no pages, no translations.
    rm -rf "$tree"/usr/share/{doc,man,info,locale}/* "$tree"/var/lib/apt/lists/* "$tree"/var/cache/apt/archives/*.deb "$tree"/var/cache/apt/*.bin "$tree"/var/log/*
    # This machine's way to packages: whom it trusts, and its proxies.
    mkdir -p "$tree/etc/ssl/certs" "$tree/usr/local/share/ca-certificates"
    cp -rL /usr/local/share/ca-certificates/. "$tree/usr/local/share/ca-certificates/" 2>/dev/null || true
    cp -L /etc/ssl/certs/ca-certificates.crt "$tree/etc/ssl/certs/trusted-here.crt"
    for file in /etc/apt/apt.conf.d/*proxy*; do [ -e "$file" ] && cp "$file" "$tree/etc/apt/apt.conf.d/"; done
    made=$(bud from scratch)
    tar -C "$tree" -cf "$work/debian.tar" .
    bud add -q "$made" "$work/debian.tar" / >/dev/null
    for file in PIP_CERT CARGO_HTTP_CAINFO SSL_CERT_FILE REQUESTS_CA_BUNDLE; do
        bud config --env "$file=/etc/ssl/certs/trusted-here.crt" "$made"
    done
    bud commit -q --rm "$made" localhost/telemetryx-check-base:12 >/dev/null
    rm -rf "$tree" "$work/debian.tar"
    base=localhost/telemetryx-check-base:12
}

build() {
    [ -n "$base" ] || debian
    local name
    for name in collector agent; do
        say "building the $name's image (profile $profile)"
        bud bud --isolation chroot --format docker --build-arg "BASE=$base" --build-arg "PROFILE=$profile" \
            --build-arg "REVISION=$(git -C "$root" rev-parse HEAD)" -f "$root/packaging/container/Containerfile.$name" \
            -t "localhost/telemetryx-$name:check" "$root" >"$work/$name.log" 2>&1 || { tail -n 40 "$work/$name.log" >&2; fail "the $name's image wasn't built"; }
    done
    bud images --format '{{.Name}}:{{.Tag}}  {{.Size}}' | grep telemetryx | sort
}

# --- run

until_true() {
    local text=$1 end=$((SECONDS + 120))
    shift
    until "$@" >"$work/last" 2>&1; do
        [ "$SECONDS" -lt "$end" ] || { cat "$work/last" >&2; pod logs --tail 20 telemetryx-check-agent telemetryx-check-collector >&2 || true; fail "not seen in two minutes: $text"; }
        sleep 0.5
    done
    say "$text"
}

hardened=(--read-only --read-only-tmpfs=false --cap-drop=all --security-opt no-new-privileges --ulimit nofile=1024:1024 --ulimit nproc=512:512 --pull never)
ask=(exec telemetryx-check-collector telemetryx)
door=(--url https://localhost:8420 --ca-file /var/lib/telemetryx/ca/ca.pem --token-file /etc/telemetryx/tokens/mine)

run() {
    say "secrets"
    cp "$root/packaging/compose/secrets.sh" "$work/"
    "$work/secrets.sh" >/dev/null
    local made=$work/secrets
    install -o 10001 -g 10001 -m 0400 "$made/root/people-token" "$made/collector/mine"
    cp "$root/packaging/kubernetes/base/agent/agent.toml" "$work/agent.toml"
    printf '\n[input.http]\nlisten = "127.0.0.1:8186"\n' >>"$work/agent.toml"
    chmod 0644 "$work/agent.toml"
    chmod 0711 "$work" "$made" "$made/collector"

    say "the collector, with the configuration of packaging/kubernetes"
    pod run -d --name telemetryx-check-collector --network none "${hardened[@]}" --tmpfs /tmp \
        --tmpfs /var/lib/telemetryx/ca:mode=1777,size=1m -e TELEMETRYX_CONFIG=/etc/telemetryx/config/collector.toml \
        -v "$root/packaging/kubernetes/base/collector/collector.toml:/etc/telemetryx/config/collector.toml:ro" \
        -v "$made/collector/ca.key:/var/lib/telemetryx/ca/ca.key:ro" -v "$made/collector/ca.pem:/var/lib/telemetryx/ca/ca.pem:ro" \
        -v "$made/collector/people:/etc/telemetryx/tokens/people:ro" -v "$made/collector/mine:/etc/telemetryx/tokens/mine:ro" \
        -v telemetryx-check-collector:/var/lib/telemetryx/collector localhost/telemetryx-collector:check >/dev/null
    until_true "the collector is ready" pod "${ask[@]}" health --ready

    say "an agent joins with a token, and a second time without one, as its container does at each start"
    pod "${ask[@]}" enroll token --json --config /etc/telemetryx/config/collector.toml | "$work/secrets.sh" enrol
    chmod 0711 "$made/agent"
    local join=(--rm --network container:telemetryx-check-collector "${hardened[@]}" -e TELEMETRYX_AGENT_CONFIG=/etc/telemetryx/config/agent.toml
        -e TELEMETRYX_AGENT_NAME=node-1 -v "$work/agent.toml:/etc/telemetryx/config/agent.toml:ro" -v telemetryx-check-agent:/var/lib/telemetryx/agent)
    pod run "${join[@]}" -v "$made/agent/enrol-token:/etc/telemetryx/secret/token:ro" localhost/telemetryx-agent:check \
        enroll https://localhost:8420 --token-file=/etc/telemetryx/secret/token --if-needed
    pod run "${join[@]}" localhost/telemetryx-agent:check enroll https://localhost:8420 --token-file=/etc/telemetryx/secret/token --if-needed

    say "the agent, with the host's metrics"
    pod run -d --name telemetryx-check-agent --network container:telemetryx-check-collector "${hardened[@]}" \
        -e TELEMETRYX_AGENT_CONFIG=/etc/telemetryx/config/agent.toml -e TELEMETRYX_AGENT_NAME=node-1 \
        -v "$work/agent.toml:/etc/telemetryx/config/agent.toml:ro" \
        -v telemetryx-check-agent:/var/lib/telemetryx/agent -v /proc:/host/proc:ro -v /sys:/host/sys:ro -v /:/host/root:ro,rslave \
        localhost/telemetryx-agent:check >/dev/null
    until_true "the agent is healthy" pod exec telemetryx-check-agent /usr/bin/telemetryx-agent status --healthy
    until_true "the images' own health checks pass" health_checks

    pod exec telemetryx-check-collector python3 -c 'import urllib.request as ask
assert ask.urlopen("http://127.0.0.1:8186/write", b"level,device=tank value=21.5\n", 30).status == 204'
    until_true "the reading is stored" stored level 21.5
    until_true "the host's metrics are, under the name that the agent was told" stored 'system.uptime{device="node-1"}' .
    # The container itself has none but lo, so this one is the host's.
    local interface
    interface=$(sed -n 's/^ *\([^:]*\):.*/\1/p' /proc/1/net/dev | grep -Ev '^(lo|veth|br-|docker|virbr|cali|flannel|cni)' | head -n 1)
    until_true "its network's too: ${interface:-lo}" stored "system.network.io{device=\"node-1\",interface=\"${interface:-lo}\"}" .
    until_true "and its file systems" stored 'system.filesystem.usage{device="node-1"}' .
    pod "${ask[@]}" query level --since 5m "${door[@]}"

    say "what they may: user, capabilities, and a write outside of a volume"
    pod exec telemetryx-check-collector python3 -c 'import os
(caps,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("CapEff")]
assert (os.getuid(), int(caps, 16)) == (10001, 0), (os.getuid(), caps)
try:
    open("/etc/x", "w")
except OSError as error:
    print("user", os.getuid(), "capabilities", caps, error)
else:
    raise SystemExit("it may write to /etc")'
    pod kill -s KILL telemetryx-check-agent >/dev/null
    pod start telemetryx-check-agent >/dev/null
    until_true "the agent is healthy after a kill -9" pod exec telemetryx-check-agent /usr/bin/telemetryx-agent status --healthy
    pod rm -f -t 30 telemetryx-check-agent >/dev/null
    pod rm -f -t 30 telemetryx-check-collector >/dev/null
}

stored() { pod "${ask[@]}" query "$1" --since 5m --format csv "${door[@]}" | tail -n +2 | grep -q "$2"; }

health_checks() { pod healthcheck run telemetryx-check-collector && pod healthcheck run telemetryx-check-agent; }

# --- the Pod of packaging/kubernetes

play() {
    say "the collector's Pod of packaging/kubernetes/overlays/single-node, by podman play kube"
    cd "$root"
    mkdir -p "$work/pod/authority" "$work/pod/tokens"
    cp -p "$work"/secrets/collector/ca.* "$work/pod/authority/"
    cp -p "$work"/secrets/collector/people "$work/pod/tokens/"
    chmod 0711 "$work" "$work/pod"
    chmod 0755 "$work/pod/authority" "$work/pod/tokens"
    PYTHONPATH="$root" "$python" - "$work/pod" >"$work/pod.yaml" <<'PY'
import sys
from pathlib import Path

import yaml

from tests.packaging import kustomize

order = ["ConfigMap", "PersistentVolumeClaim", "Deployment"]
rendered = kustomize.build(Path("packaging/kubernetes/overlays/single-node"))
wanted = [one for one in rendered if one["kind"] in order and one["metadata"]["namespace"] == "telemetryx"]
for one in wanted:
    if one["kind"] != "Deployment":
        continue
    pod = one["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    container["image"] = "localhost/telemetryx-collector:check"
    # The kubelet asks over HTTPS from outside; podman would want curl inside, and a port of this machine for each of the pod's.
    for key in ("startupProbe", "livenessProbe", "readinessProbe", "ports"):
        del container[key]
    # podman knows no fsGroup, so a Secret's files would be root's: the same files from a folder.
    for volume in pod["volumes"]:
        if volume.pop("secret", None):
            volume["hostPath"] = {"path": f"{sys.argv[1]}/{volume['name']}", "type": "Directory"}
    # It passes over subPath, too: a volume for each such file.
    for mount in container["volumeMounts"]:
        if file := mount.pop("subPath", None):
            path = f"{sys.argv[1]}/{mount['name']}/{file}"
            mount["name"] = file.replace(".", "-")
            pod["volumes"].append({"name": mount["name"], "hostPath": {"path": path, "type": "File"}})
print(yaml.safe_dump_all(sorted(wanted, key=lambda one: order.index(one["kind"]))))
PY
    printf '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=512:512"]\n' >"$work/containers.conf"
    CONTAINERS_CONF="$work/containers.conf" podman --storage-driver vfs --cgroup-manager cgroupfs --runtime crun play kube --network none "$work/pod.yaml" >"$work/played" 2>&1 \
        || { cat "$work/played" >&2; fail "podman play kube"; }
    until_true "the Pod is ready" pod exec telemetryx-collector-pod-0-collector telemetryx health --ready
}

case "$what" in
    build) build ;;
    run) run; play ;;
    all) build; run; play ;;
    *) fail "build, run or all" ;;
esac
say "done"
