#!/usr/bin/env bash
# Takes out of a folder of installed Python libraries what nothing runs: their tests, headers, stubs and static libraries, and symbols.
#
#   packaging/slim.sh SITE-PACKAGES
#
# NOTE: a library that auditwheel has patched (its package has a folder NAME.libs beside it) is known to break when it is stripped.
set -euo pipefail

site=${1:?the folder of the libraries}
find "$site" -type d \( -name tests -o -name __pycache__ \) -prune -exec rm -rf {} +
find "$site" -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.a' -o -name '*.h' \) -delete
rm -rf "$site"/numpy/f2py "$site"/numpy/_core/include
# Debian has the time zones.
rm -rf "$site"/tzdata "$site"/tzdata-*.dist-info

patched=()
for libs in "$site"/*.libs; do
    [ ! -d "$libs" ] || patched+=(! -path "$libs/*" ! -path "${libs%.libs}/*")
done
find "$site" -name '*.so' -type f "${patched[@]}" -exec strip --strip-unneeded {} +
