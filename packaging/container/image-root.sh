#!/bin/bash
# Lays out an image's root: the programs named, the shared libraries they load, certificates and time zones.
#
#   image-root.sh FOLDER PROGRAM...      a PROGRAM that isn't in FOLDER yet is copied from this system
set -euo pipefail

folder=$1
shift
# Debian 12's /bin and /lib lead into /usr; in the image too, since the loader is named by its old path.
for link in bin lib lib64; do
    install -d "$folder/usr/$link"
    [ -e "$folder/$link" ] || ln -s "usr/$link" "$folder/$link"
done
for program in "$@"; do
    [ -e "$folder$program" ] || install -D "$program" "$folder$program"
    while read -r library; do
        # What a library finds beside itself is there already.
        case $library in "$folder"/*) continue ;; esac
        [ -e "$folder$library" ] || install -D "$library" "$folder$library"
    done < <(ldd "$folder$program" | grep -o '/[^ ]*')
done
install -D -m 0644 /etc/ssl/certs/ca-certificates.crt "$folder/etc/ssl/certs/ca-certificates.crt"
install -d "$folder/usr/share"
cp -a /usr/share/zoneinfo "$folder/usr/share/zoneinfo"
rm -rf "$folder/usr/share/zoneinfo/right" "$folder/usr/share/zoneinfo/posix"
