#!/usr/bin/env bash
# Installs the Debian packages that the named things need, where they are missing. Asks nothing.
#
#   install.sh venv|postgresql|chromium|redis|wrk …
#
# As root, or with sudo. Where neither is to be had it says what is missing and goes on: the tests that need it
# are skipped with a reason, and fail under CI=true.
set -euo pipefail

python=${PYTHON:-python3}
packages=()
for thing in "$@"; do
    case $thing in
        venv)
            "$python" -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv) ;;
        postgresql)
            compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null ||
                packages+=(postgresql) ;;
        chromium)
            command -v chromium >/dev/null || packages+=(chromium) ;;
        redis)
            command -v redis-server >/dev/null || packages+=(redis-server) ;;
        wrk)
            command -v wrk >/dev/null || packages+=(wrk) ;;
        *)
            echo "install.sh: nothing is known about '$thing'" >&2
            exit 2 ;;
    esac
done
((${#packages[@]})) || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "missing: ${packages[*]} (not root, no sudo: install them by hand)" >&2
        exit 0
    fi
    as_root=(sudo)
fi
if ! command -v apt-get >/dev/null; then
    echo "missing: ${packages[*]} (no apt-get here: install them by hand)" >&2
    exit 0
fi

echo "installing: ${packages[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 "$@"; }
if ! { apt update && apt install -y --no-install-recommends "${packages[@]}"; } >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
fi
