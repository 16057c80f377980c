#!/usr/bin/env bash
# Lists the CPythons of this machine that the library supports: "3.12 /path/to/python3.12", one a line.
# With the argument "free-threaded", those without the interpreter lock (PEP 703): "3.14t /path/to/python3.14t".
# Looks on the PATH and among pyenv's versions; says on stderr which were not found.
set -euo pipefail

supported=(3.10 3.11 3.12 3.13)
if [ "${1:-}" = free-threaded ]; then supported=(3.13t 3.14t); fi

version_of() {
    "$1" -c 'import sys, sysconfig
print("%d.%d" % sys.version_info[:2] + "t" * bool(sysconfig.get_config_var("Py_GIL_DISABLED")))' 2>/dev/null || true
}

pyenv_root=
if command -v pyenv >/dev/null; then pyenv_root=$(pyenv root); fi

for version in "${supported[@]}"; do
    found=
    for candidate in "python$version" "$pyenv_root"/versions/"${version%t}"*/bin/python; do
        # A pyenv shim exists for versions that are installed but not switched on: only running it tells.
        if [ "$(version_of "$candidate")" = "$version" ]; then
            found=$("$candidate" -c 'import sys; print(sys.executable)')
            break
        fi
    done
    if [ -n "$found" ]; then
        echo "$version $found"
    else
        echo "Python $version: not found on this machine, not tested" >&2
    fi
done
