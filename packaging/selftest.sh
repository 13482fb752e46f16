#!/usr/bin/env bash
# A packaged agent at work, for architectures that this machine can only emulate as well as for its own.
#
#   packaging/selftest.sh PROGRAM
#
# EMULATOR, when set, is put before each call of PROGRAM (qemu-aarch64-static). Needs bash and coreutils only. What it does: `doctor`; a reading
# over MQTT (QoS 1) and two over TCP, each acknowledged; they wait in the spool, since no collector is there; kill -9; a start that finds them
# again; `spool verify`, `spool export` gives all three; an orderly stop.
set -euo pipefail

[ $# = 1 ] || { sed -n '2,8s/^# \?//p' "$0" >&2; exit 2; }
program=$(realpath "$1")
read -ra emulator <<<"${EMULATOR:-}"
agent() { "${emulator[@]}" "$program" "$@"; }

place=$(mktemp -d)
pid=
ended() {
    [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
    rm -rf "$place"
}
trap ended EXIT
fail() {
    printf 'selftest: %s\n' "$*" >&2
    tail -n 20 "$place/log" >&2 || true
    exit 1
}
passed() { printf '  ok  %s\n' "$*"; }

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
# Three ports that nobody listens on, and no test chooses (collector/tests/free_ports.py): one whose owner is down for a moment isn't free. A
# second agent that tries the same ones at this moment fails, and says so.
while :; do
    mqtt=$((2048 + RANDOM % 3000)) tcp=$((mqtt + 1)) nobody=$((mqtt + 2))
    listens "$mqtt" || listens "$tcp" || listens "$nobody" || break
done
cat >"$place/agent.toml" <<TEXT
[agent]
name = "selftest"
data_dir = "$place/data"
[uplink]
url = "http://127.0.0.1:$nobody"
[input.mqtt]
listen = "127.0.0.1:$mqtt"
[input.tcp]
listen = "127.0.0.1:$tcp"
TEXT
config=(--config "$place/agent.toml")

# Calls until it succeeds; emulated programs on a busy machine are slow to start.
within() {
    local until=$((SECONDS + 120))
    until "${@:2}" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$until" ] || fail "$1"
        [ -z "$pid" ] || kill -0 "$pid" 2>/dev/null || fail "the agent has ended"
        sleep 0.2
    done
}
start() {
    "${emulator[@]}" "$program" run "${config[@]}" >>"$place/log" 2>&1 &
    pid=$!
    within "it doesn't answer \`status\` within two minutes" agent status "${config[@]}"
    within "nobody listens on port $mqtt" listens "$mqtt"
    within "nobody listens on port $tcp" listens "$tcp"
}
exported() { agent spool export "${config[@]}" 2>/dev/null | grep -c '"sample"'; }
holds_three() { [ "$(exported)" = 3 ]; }
# answered SECONDS BYTES: reads so many bytes from file descriptor 3, as hexadecimal
answered() { timeout "$1" head -c "$2" <&3 | od -An -tx1 | tr -d ' \n'; }

agent --version
agent check "${config[@]}" >/dev/null && passed "check"
start
passed "start"

exec 3<>"/dev/tcp/127.0.0.1/$mqtt"
# CONNECT of MQTT 3.1.1: clean session, keep-alive 60, client "selftest"
printf '\x10\x14\x00\x04MQTT\x04\x02\x00\x3c\x00\x08selftest' >&3
[ "$(answered 60 4)" = 20020000 ] || fail "MQTT: no CONNACK"
# PUBLISH at QoS 1, packet 7, to plant1/pump7/temperature
printf '\x32\x20\x00\x18plant1/pump7/temperature\x00\x0721.5' >&3
[ "$(answered 60 4)" = 40020007 ] || fail "MQTT: no PUBACK"
exec 3>&-
passed "MQTT: published and acknowledged"

exec 3<>"/dev/tcp/127.0.0.1/$tcp"
printf 'ACK\nroof temperature=1,humidity=2\n' >&3
read -r -t 60 line <&3 || fail "TCP: no answer"
[ "$line" = "OK 1" ] || fail "TCP: answered '$line', not 'OK 1'"
exec 3>&-
passed "TCP: written and acknowledged"

within "the spool doesn't hold the three readings" holds_three
passed "spool: holds the three readings"
code=0
agent doctor "${config[@]}" >"$place/doctor" 2>&1 || code=$?
# There is no collector: that it says so is right, and the only problem it may have.
if [ "$code" -gt 1 ] || ! grep -q "127.0.0.1:$nobody" "$place/doctor"; then
    cat "$place/doctor" >&2
    fail "doctor ended with $code"
fi
passed "doctor: runs, and names the collector that is not there"

{ kill -9 "$pid"; wait "$pid"; } 2>/dev/null || true
start
within "after kill -9 the spool doesn't give three readings" holds_three
agent spool verify --journal "${config[@]}" >/dev/null || fail "spool verify found damage"
passed "kill -9 and a new start: all three are there, nothing is damaged"

kill -TERM "$pid"
wait "$pid" || fail "ended with $? after SIGTERM"
pid=
passed "SIGTERM: an orderly end"
