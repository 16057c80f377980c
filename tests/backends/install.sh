#!/usr/bin/env bash
# Installs the Debian packages that the named things need, where they are missing. Asks nothing.
#
#   install.sh venv|postgresql|pgbouncer|chromium|firefox|webkit|firestore|redis|wrk …
#
# As root, or with sudo. Where neither is to be had it says what is missing and goes on: the tests that need it
# are skipped with a reason, and fail under CI=true.
set -euo pipefail

python=${PYTHON:-python3}
emulator=/usr/lib/google-cloud-sdk/platform/cloud-firestore-emulator/cloud-firestore-emulator.jar
google=
packages=()
for thing in "$@"; do
    case $thing in
        venv)
            "$python" -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv) ;;
        postgresql)
            compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null ||
                packages+=(postgresql) ;;
        pgbouncer)
            compgen -G '/usr/*bin/pgbouncer' >/dev/null || command -v pgbouncer >/dev/null || packages+=(pgbouncer) ;;
        chromium)
            command -v chromium >/dev/null || packages+=(chromium) ;;
        firefox)
            command -v firefox-esr >/dev/null || command -v firefox >/dev/null || packages+=(firefox-esr) ;;
        webkit)
            { command -v WebKitWebDriver && compgen -G '/usr/lib/*/webkit2gtk-4.*/MiniBrowser'; } >/dev/null ||
                packages+=(webkit2gtk-driver)
            command -v Xvfb >/dev/null || packages+=(xvfb) ;;
        redis)
            command -v redis-server >/dev/null || packages+=(redis-server) ;;
        firestore)
            command -v java >/dev/null || packages+=(default-jre-headless)
            [ -e "$emulator" ] || { packages+=(google-cloud-cli-firestore-emulator); google=yes; } ;;
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
if [ -n "$google" ] && ! apt-cache show google-cloud-cli-firestore-emulator >/dev/null 2>&1; then
    # Google's own repository: cloud.google.com/sdk/docs/install#deb
    apt update >"$log" 2>&1 || true
    apt install -y --no-install-recommends ca-certificates curl gpg >"$log" 2>&1 || true
    key=/usr/share/keyrings/cloud.google.gpg
    curl -fsSL https://packages.cloud.google.com/apt/doc/apt-key.gpg | "${as_root[@]}" gpg --batch --yes --dearmor -o "$key"
    echo "deb [signed-by=$key] https://packages.cloud.google.com/apt cloud-sdk main" |
        "${as_root[@]}" tee /etc/apt/sources.list.d/google-cloud-sdk.list >/dev/null
fi
if ! { apt update && apt install -y --no-install-recommends "${packages[@]}"; } >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
fi
