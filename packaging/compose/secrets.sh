#!/usr/bin/env bash
# Makes the secrets that compose.yaml names, once: passwords, tokens, and the authority that signs for collectors and agents.
#
#   sudo ./secrets.sh [NAME...]      NAMEs and addresses by which agents and people reach this host, for the collectors' certificates
#   docker compose exec -T collector-1 telemetryx enroll token --config /etc/telemetryx/collector.toml --json | sudo ./secrets.sh enrol
#                                    keeps the token with which the service `agent` joins
#
# Needs root and openssl. Compose mounts a file as it is, so each copy belongs to the user inside the image that reads it, mode 0400.
# What is there already is left alone; remove a folder of secrets/ to make its content anew. The NAMEs are kept in .env, with what
# the collector calls this host: its own name, unless TELEMETRYX_HOST says another one there.
set -euo pipefail
umask 077

cd "$(dirname "$0")"
[ "$(id -u)" = 0 ] || { echo "secrets: run it with sudo: the files are given to the users inside the images" >&2; exit 1; }
command -v openssl >/dev/null || { echo "secrets: install openssl" >&2; exit 1; }
mkdir -p secrets

random() { openssl rand -hex 24; }
# put USER FILE: standard input, as a file of its own
put() {
    mkdir -p "$(dirname "secrets/$2")"
    [ -e "secrets/$2" ] && { cat >/dev/null; return; }
    cat >"secrets/$2"
    chown "$1:$1" "secrets/$2"
    chmod 0400 "secrets/$2"
}
# keep NAME: the same random text at each run, and under several names
keep() {
    mkdir -p secrets/root
    [ -e "secrets/root/$1" ] || random >"secrets/root/$1"
    cat "secrets/root/$1"
}

# The users inside the images: collector, agent, postgres, redis, prometheus, grafana.
collector=10001 agent=10002 postgres=999 redis=999 prometheus=65534 grafana=472

# The same as `telemetryx enroll authority`: valid from 1970 on, so that hosts whose clock was never set can connect too.
authority() {
    local folder=secrets/root made
    mkdir -p "$folder"
    [ -e "$folder/ca.pem" ] && return
    made=$(mktemp -d)
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=TelemetryX compose authority" -keyout "$folder/ca.key" -out "$made/csr" 2>/dev/null
    : >"$made/index"
    openssl rand -hex 16 >"$made/serial"
    cat >"$made/config" <<TEXT
[ca]
default_ca = here
[here]
database = $made/index
serial = $made/serial
policy = any
[any]
commonName = supplied
[authority]
basicConstraints = critical,CA:TRUE,pathlen:0
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
TEXT
    openssl ca -batch -notext -selfsign -config "$made/config" -extensions authority -md sha256 -keyfile "$folder/ca.key" -in "$made/csr" \
        -startdate 19700101000000Z -enddate "$(($(date +%Y) + 30))0101000000Z" -outdir "$made" -out "$folder/ca.pem" 2>"$made/said" || { cat "$made/said" >&2; exit 1; }
    rm -rf "$made"
}

# The collectors' own names come last: whoever gives none has these.
names() {
    local list='' name
    for name in "$@" "$(hostname)" collector-1 collector-2; do list="$list,\"$name\""; done
    echo "TELEMETRYX_NAMES=[${list#,}]"
}

if [ "${1:-}" = enrol ]; then
    token=$(sed -n 's/.*"token": *"\(txe1\.[^"]*\)".*/\1/p')
    [ -n "$token" ] || { echo "secrets: give the output of \`telemetryx enroll token --json\` on standard input" >&2; exit 1; }
    # A token is for one host, once: a new one takes the place of the old.
    rm -f secrets/agent/enrol-token
    put $agent agent/enrol-token <<<"$token"
    exit
fi

authority
if [ $# -gt 0 ] || [ ! -e .env ]; then
    {
        grep -v '^TELEMETRYX_NAMES=' .env 2>/dev/null || true
        grep -qs '^TELEMETRYX_HOST=' .env || echo "TELEMETRYX_HOST=$(hostname)"
        names "$@"
    } >.env.new
    chmod 0644 .env.new
    mv .env.new .env
fi
put $collector collector/ca.key <secrets/root/ca.key
put $collector collector/ca.pem <secrets/root/ca.pem
printf '%s  # Prometheus\n%s  # Grafana\n%s  # people\n' "$(keep prometheus-token)" "$(keep grafana-token)" "$(keep people-token)" \
    | put $collector collector/people
keep database-password | put $collector collector/database-password
keep redis-password | put $collector collector/redis-password
keep database-password | put $postgres postgres/password
printf 'save ""\nappendonly no\nmaxmemory 256mb\nmaxmemory-policy allkeys-lru\nprotected-mode no\nrequirepass %s\n' "$(keep redis-password)" \
    | put $redis redis/redis.conf
keep prometheus-token | put $prometheus prometheus/token
put $prometheus prometheus/ca.crt <secrets/root/ca.pem
keep grafana-token | put $grafana grafana/token
keep grafana-password | put $grafana grafana/password
put $grafana grafana/ca.crt <secrets/root/ca.pem

echo "Log in to the console with the token in secrets/root/people-token, to Grafana as admin with secrets/root/grafana-password."
echo "Browsers believe the console when secrets/root/ca.pem is installed in them. Back secrets/root up: it signs for every agent."
