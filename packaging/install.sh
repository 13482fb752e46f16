#!/bin/sh
# Installs TelemetryX from its packages, joins the agent to its collector, and sees that it runs.
set -eu

usage() {
    cat <<'TEXT'
usage: install.sh [agent] [--from FOLDER|URL] [--collector URL --token TOKEN [--name NAME] [--ca-file FILE] [--replace]] [--dry-run]
       install.sh collector [--from FOLDER|URL] [--open] [--dry-run]

  agent               install the agent (the default): .deb on Debian and Ubuntu (amd64, arm64, armhf), .rpm on Fedora, RHEL, SUSE and their kin
  collector           install the collector: .deb, for Debian 12 on amd64
  --from FOLDER|URL   where the packages are: a folder, or an http(s) address that has them and SHA256SUMS; default: the folder of this script
  --collector URL     enrol the agent with this collector, https://HOST:8420
  --token TOKEN       the token that `telemetryx enroll token` printed there; or in the environment, TELEMETRYX_ENROLL_TOKEN
  --name NAME         what the collector calls this agent; default: the host's name
  --ca-file FILE      PEM file with the authority that signed the console's certificate, where that isn't the collector's own
  --replace           this is the host of an agent that was there before, rebuilt; the token must allow it
  --open              open the collector to other machines: both doors listen on all addresses, with TLS; people need an account
  --dry-run           only say what would be done
  -h, --help          this

Run it again with a newer package to upgrade: config files and data stay. Needs root or sudo.
TEXT
}

say() { printf '==> %s\n' "$*"; }
fail() { printf 'install: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
wrong() { printf 'install: %s\n\n' "$*" >&2; usage >&2; exit 2; }

what='' from='' collector='' token=${TELEMETRYX_ENROLL_TOKEN:-} name='' ca='' replace='' open='' dry='' joining=''
while [ $# -gt 0 ]; do
    case $1 in
        agent | collector)
            [ -z "$what" ] || wrong "$what and $1 are two installations: one at a time"
            what=$1
            ;;
        --from=* | --collector=* | --token=* | --name=* | --ca-file=*)
            # As two words, which the next round reads.
            option=${1%%=*} value=${1#*=}
            shift
            set -- "$option" "$value" "$@"
            continue
            ;;
        --from | --collector | --token | --name | --ca-file)
            # One that is empty is a shell's variable that wasn't set.
            [ -n "${2:-}" ] || wrong "$1 needs a value"
            case $1 in
                --token | --name | --ca-file) joining=$1 ;;
            esac
            case $1 in
                --from) from=$2 ;;
                --collector) collector=$2 ;;
                --token) token=$2 ;;
                --name) name=$2 ;;
                --ca-file) ca=$2 ;;
            esac
            shift
            ;;
        --replace) replace=yes joining=$1 ;;
        --open) open=yes ;;
        --dry-run) dry=yes ;;
        -h | --help) usage; exit 0 ;;
        *) wrong "'$1' is not known" ;;
    esac
    shift
done
what=${what:-agent}
if [ -n "$open" ]; then [ "$what" = collector ] || wrong "--open is for the collector: agents take no connections from other machines unless their config says so"; fi
if [ -n "$collector" ]; then
    [ "$what" = agent ] || wrong "--collector is for an agent: the collector has nothing to enrol with"
    [ -n "$token" ] || wrong "--collector needs --token: make one on the collector with \`telemetryx enroll token\`"
    # Before anything is installed: who reads this at a prompt mends the line and is done.
    case $collector in
        https://?* | http://localhost | http://localhost:* | http://127.* | http://\[::1\]*) ;;
        *) wrong "--collector $collector is no collector's address: write https://HOST:8420, as \`telemetryx enroll token\` printed it" ;;
    esac
    host=${collector#*://}
    case ${host%/} in
        *[/?\#@[:space:]]*) wrong "--collector $collector has more in it than a host and a port: write https://HOST:8420, without a path behind it" ;;
    esac
    case $token in
        txe1.*.*) ;;
        *) wrong "this is no enrolment token (it doesn't begin with txe1.): paste it whole, as \`telemetryx enroll token\` printed it" ;;
    esac
    # As the collector takes names.
    case $name in
        '' | *[A-Za-z0-9]*) ;;
        *) wrong "--name $name is no agent's name: letters, digits and - _ . only, a letter or digit among them" ;;
    esac
    case $name in *[!A-Za-z0-9._-]*) wrong "--name $name is no agent's name: letters, digits and - _ . only, a letter or digit among them" ;; esac
    [ ${#name} -le 128 ] || wrong "--name has ${#name} characters: at most 128 are taken"
    if [ -n "$ca" ]; then
        if [ ! -f "$ca" ] || [ ! -r "$ca" ]; then wrong "--ca-file $ca is no file that can be read: name the PEM file of the authority"; fi
        grep -q 'BEGIN CERTIFICATE' "$ca" || wrong "--ca-file $ca holds no certificate: name the PEM file of the authority"
    fi
elif [ -n "$joining" ]; then
    [ "$what" = agent ] || wrong "$joining is for an agent: the collector has nothing to enrol with"
    wrong "$joining is for joining a collector, which --collector https://HOST:8420 names"
elif [ -n "$token" ]; then
    # The same shell may install both, the collector first.
    [ "$what" = agent ] && wrong "TELEMETRYX_ENROLL_TOKEN is set, and no collector is named that it joins: add --collector https://HOST:8420, or \`unset TELEMETRYX_ENROLL_TOKEN\` to install an agent that joins nothing"
    say "TELEMETRYX_ENROLL_TOKEN is for an agent: the collector doesn't use it"
fi

as_root() {
    if [ -n "$dry" ]; then say "would run: $*"
    elif [ "$(id -u)" = 0 ]; then "$@"
    elif have sudo; then sudo --preserve-env=TELEMETRYX_ENROLL_TOKEN "$@"
    else fail "root is needed for: $*. Run this as root, or install sudo"
    fi
}

# --- which system this is ------------------------------------------------------------------------------
[ "$(uname -s)" = Linux ] || fail "TelemetryX runs on Linux; this is $(uname -s)"
# The tests give another one.
release=${TELEMETRYX_OS_RELEASE:-/etc/os-release}
[ -r "$release" ] || fail "$release can't be read, so the system can't be told. Install the package by hand: dpkg -i or rpm -U"
os_field() { sed -n "s/^$1=\"\{0,1\}\([^\"]*\)\"\{0,1\}\$/\1/p" "$release" | head -n 1; }
system="$(os_field ID) $(os_field ID_LIKE)" pretty=$(os_field PRETTY_NAME)
case " $system " in
    *" debian "* | *" ubuntu "* | *" raspbian "*) family=deb ;;
    *" rhel "* | *" fedora "* | *" centos "* | *" suse "* | *" opensuse "* | *" sles "* | *" amzn "*) family=rpm ;;
    *) fail "${pretty:-this system} is neither of Debian's nor of rpm's family. The agent is one program: take it out of the .deb (dpkg-deb -x, or ar and tar) and see docs/how-to/install.md" ;;
esac
machine=${TELEMETRYX_MACHINE:-$(uname -m)}
# A 64-bit kernel may carry a 32-bit system (Raspberry Pi OS): dpkg knows.
if [ "$family" = deb ] && have dpkg && [ -z "${TELEMETRYX_MACHINE:-}" ]; then machine=$(dpkg --print-architecture); fi
case $machine in
    x86_64 | amd64) deb=amd64 rpm=x86_64 ;;
    aarch64 | arm64) deb=arm64 rpm=aarch64 ;;
    armv7* | armv8l | armhf) deb=armhf rpm=armv7hl ;;
    *) fail "there is no package for the architecture $machine (there are amd64, arm64 and armhf): build one on this machine with \`just package agent --agent PROGRAM\`" ;;
esac
if [ "$what" = collector ]; then
    if [ "$family" != deb ] || [ "$deb" != amd64 ] || [ "$(os_field VERSION_ID)" != 12 ] || [ "$(os_field ID)" != debian ]; then
        fail "the collector's package is for Debian 12 on amd64; this is ${pretty:-$system} on $machine. Use the wheel: python3 -m venv /opt/telemetryx && /opt/telemetryx/bin/pip install 'telemetryx-*.whl[sql]' (Python 3.11 or newer)"
    fi
fi

# --- the package ---------------------------------------------------------------------------------------
if [ "$family" = deb ]; then pattern="telemetryx-${what}_*_$deb.deb"; else pattern="telemetryx-$what-*.$rpm.rpm"; fi
if [ -z "$from" ]; then
    from=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
    case $0 in sh | */sh | dash | */dash | bash | */bash) fail "read from a pipe this script has no folder: say where the packages are with --from" ;; esac
fi

folder=''
cleanup() { [ -z "$folder" ] || rm -rf "$folder"; }
trap cleanup EXIT

# fetch ADDRESS FILE
fetch() {
    if have curl; then curl -fsSL --retry 3 -o "$2" "$1"
    elif have wget; then wget -q -O "$2" "$1"
    else fail "neither curl nor wget is here: install one, or copy the package to this host and use --from FOLDER"
    fi || fail "$1 can't be fetched: is the address right, and can this host reach it?"
}

# The newest of the names on standard input that fit.
newest() {
    while IFS= read -r one; do
        # shellcheck disable=SC2254  # a pattern
        case $one in $pattern) echo "$one" ;; esac
    done | sort -V | tail -n 1
}

case $from in
    http://* | https://*)
        folder=$(mktemp -d)
        fetch "$from/SHA256SUMS" "$folder/SHA256SUMS"
        package=$(sed 's/^[0-9a-f]*[ *]*//' "$folder/SHA256SUMS" | newest)
        [ -n "$package" ] || fail "$from/SHA256SUMS names no $pattern"
        say "fetching $from/$package"
        fetch "$from/$package" "$folder/$package"
        (cd "$folder" && grep -F "  $package" SHA256SUMS | sha256sum -c --quiet -) >&2 || fail "$package is not what SHA256SUMS says: fetched half, or changed. Nothing was installed"
        # apt reads a package as its own user.
        chmod 0755 "$folder"
        file=$folder/$package
        ;;
    *)
        [ -d "$from" ] || fail "$from is no folder"
        # shellcheck disable=SC2012  # the names are our own
        package=$(ls "$from" | newest)
        [ -n "$package" ] || fail "$from holds no $pattern: name the folder or address of the packages with --from"
        file=$(CDPATH='' cd -- "$from" && pwd)/$package
        ;;
esac

say "installing $package on ${pretty:-$system}"
# A config file that was changed here stays, and nobody is asked: what is read from a pipe has no answer to give.
if [ "$family" = deb ]; then
    if have apt-get; then as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$file" || fail "apt-get could not install $file: its reason is above; when a dependency is missing, \`apt-get update\` may help"
    else as_root dpkg --force-confdef --force-confold -i "$file" || fail "dpkg could not install $file: its reason is above"; fi
elif have dnf; then as_root dnf install -y "$file" || fail "dnf could not install $file: its reason is above"
elif have yum; then as_root yum install -y "$file" || fail "yum could not install $file: its reason is above"
elif have zypper; then as_root zypper --non-interactive install --allow-unsigned-rpm "$file" || fail "zypper could not install $file: its reason is above"
elif have rpm; then as_root rpm -U "$file" || fail "rpm could not install $file: its reason is above"
else fail "neither dnf, yum, zypper nor rpm is here"
fi

# Which doors of a config file only this machine reaches, however they are written.
# shellcheck disable=SC2016  # Python's
closed_doors='
import sys, tomllib
with open(sys.argv[1], "rb") as file:
    config = tomllib.load(file)
for table in ("api", "gateway"):
    host = str(config.get(table, {}).get("listen", "127.0.0.1:0")).rpartition(":")[0].strip("[]")
    if host in ("localhost", "::1") or host.startswith("127."):
        print(f"[{table}] listen", end=" ")
'

# --- joined and running --------------------------------------------------------------------------------
unit=telemetryx-$what
if [ -n "$collector" ]; then
    say "enrolling with $collector"
    # In the environment: a command line can be seen by everybody on the host.
    export TELEMETRYX_ENROLL_TOKEN="$token"
    set -- telemetryx-agent enroll "$collector"
    [ -z "$name" ] || set -- "$@" --name "$name"
    [ -z "$ca" ] || set -- "$@" --ca-file "$ca"
    # The same line again is an upgrade: a host that has joined stays as it is, and its agent is restarted.
    if [ -n "$replace" ]; then set -- "$@" --replace; else set -- "$@" --if-needed; fi
    as_root "$@" || fail "the agent is installed, but not enrolled: the reason is above. Then run: telemetryx-agent enroll $collector --token TOKEN"
fi
if [ -n "$open" ]; then
    config=/etc/telemetryx/collector.toml
    say "opening the collector to other machines, in $config"
    as_root sed -i 's/^listen = "127\.0\.0\.1:\(842[01]\)" */listen = "0.0.0.0:\1"   /' "$config" || fail "$config can't be changed: set listen in [api] and [gateway]"
    if [ -z "$dry" ]; then
        closed=$(as_root /usr/lib/telemetryx/bin/python3 -c "$closed_doors" "$config") || fail "$config can't be read: the reason is above. Mend it, set listen in [api] and [gateway] to \"0.0.0.0:8420\" and \"0.0.0.0:8421\", and systemctl restart telemetryx-collector"
        [ -z "$closed" ] || fail "the collector is installed, but not open: in $config, ${closed% } is still of this machine alone. Set listen in [api] to \"0.0.0.0:8420\" and in [gateway] to \"0.0.0.0:8421\", and systemctl restart telemetryx-collector"
    fi
fi
if [ -d /run/systemd/system ]; then
    since=$(date '+%Y-%m-%d %H:%M:%S')
    as_root systemctl enable --quiet "$unit" || fail "systemd refused to enable $unit"
    as_root systemctl restart "$unit" || fail "$unit did not start: journalctl -u $unit says why"
    say "$unit runs: systemctl status $unit"
else
    say "systemd doesn't run here, so nothing was started: $([ "$what" = agent ] && echo "telemetryx-agent run" || echo "telemetryx collector --config /etc/telemetryx/collector.toml")"
fi
if [ "$what" = collector ]; then
    # The collector prints it once, where nobody has an account yet.
    link=''
    if [ -z "$dry" ] && [ -n "${since:-}" ] && have journalctl; then
        link=$(as_root journalctl --unit "$unit" --since "$since" --output cat --no-pager 2>/dev/null | grep -F '/#/first?code=' | tail -n 1 | tr -d ' ') || true
    fi
    if [ -n "$link" ]; then say "open the console within an hour and make the first account: $link"
    elif [ -n "$open" ]; then say "the console is at https://$(hostname 2>/dev/null || uname -n):8420"
    else say "the console is at http://127.0.0.1:8420"; fi
    [ -z "$open" ] || say "a host joins by a token: telemetryx enroll token --config /etc/telemetryx/collector.toml"
fi
