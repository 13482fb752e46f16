#!/bin/bash
# Lays out an image's root with this system's Python, what runs of its standard library, and a virtual environment, which is moved there.
#
#   python-root.sh FOLDER ENVIRONMENT
set -euo pipefail

folder=$1 environment=$2
library=$folder/usr/lib/python3.11
install -d "$folder/usr/bin" "$library" "$folder${environment%/*}"
mv "$environment" "$folder$environment"
cp -a /usr/bin/python3 /usr/bin/python3.11 "$folder/usr/bin/"
cp -a /usr/lib/python3.11/. "$library/"
for unused in config-3.11-x86_64-linux-gnu distutils ensurepip idlelib lib2to3 pydoc_data test tkinter turtledemo; do rm -rf "${library:?}/$unused"; done
find "$library" "$folder$environment" -type d -name __pycache__ -prune -exec rm -rf {} +
# Whatever any of it loads.
mapfile -t modules < <(find "$folder" -name '*.so' -printf '/%P\n' | sort)
image-root "$folder" /usr/bin/python3.11 "${modules[@]}"
python3 -m compileall -q -s "$folder" -p / "$library" "$folder$environment/lib"
