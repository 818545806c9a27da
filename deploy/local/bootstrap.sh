#!/bin/sh
# Make .venv: the Python environment that everything runs in, with the exact packages that requirements.lock names.
# Run by `make setup`; PYTHON says which Python to build it from.
set -eu

PYTHON="${PYTHON:-python3}"
VENV=.venv
NEEDED_MEGABYTES=4000

refuse() {
    printf 'k2: %s\n' "$*" >&2
    exit 1
}

# Say in a line what is done, and do it; what it prints is shown only if it fails, and then whole.
step() {
    printf 'k2: %s\n' "$1"
    shift
    if output=$("$@" 2>&1); then return 0; fi
    printf '%s\n' "$output" >&2
    return 1
}

command -v "$PYTHON" >/dev/null 2>&1 ||
    refuse "no $PYTHON here. Install Python 3.11 or newer, or name one: make setup PYTHON=/path/to/python3"

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    refuse "$PYTHON is $("$PYTHON" --version 2>&1), but K2 needs Python 3.11 or newer." \
        "Install one (Debian, Ubuntu: apt-get install python3.11 python3.11-venv; macOS: brew install python)" \
        "and name it: make setup PYTHON=python3.11"

"$PYTHON" -c 'import ensurepip, venv' 2>/dev/null ||
    refuse "$PYTHON can't make virtual environments. Install that part of it" \
        "(Debian, Ubuntu: apt-get install python3-venv) and run this again."

# A .venv whose Python was upgraded or moved away does not start any more; one that was left half made has no pip.
if [ -d "$VENV" ] && ! "$VENV/bin/python" -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
    echo "k2: $VENV does not work any more; making it anew" >&2
    rm -rf "$VENV"
fi

if [ ! -d "$VENV" ]; then
    free_megabytes=$(df -Pk . | awk 'NR == 2 { print int($4 / 1024) }')
    [ "$free_megabytes" -ge "$NEEDED_MEGABYTES" ] ||
        refuse "$(pwd): $free_megabytes MB free, but K2 and its packages need $NEEDED_MEGABYTES MB. Make room and run this again."
    step "1/4 making $VENV with $("$PYTHON" --version)" "$PYTHON" -m venv "$VENV" ||
        refuse "$VENV could not be made; the lines above say why."
fi

export PIP_DISABLE_PIP_VERSION_CHECK=1
if ! cmp -s requirements.lock "$VENV/requirements.lock"; then
    # The lock is complete and checked by hash; left to resolve anew, older pips refuse it for its extras. Python
    # compiles what is used when it is used: compiling all of it here takes longer than the rest.
    step "2/4 installing the packages of requirements.lock (the first time this downloads about 500 MB)" \
        "$VENV/bin/python" -m pip install --no-compile --no-deps --require-hashes -r requirements.lock ||
        refuse "the packages could not be installed. pip's last lines say why: no network (then check the connection" \
            "and HTTPS_PROXY), no room on the disk, or no build of a package for this Python or machine. What was" \
            "downloaded is kept: run this again."
    cp requirements.lock "$VENV/requirements.lock"
fi
step "3/4 installing K2 itself" "$VENV/bin/python" -m pip install --quiet --no-deps --no-build-isolation -e . ||
    refuse "K2 itself could not be installed into $VENV; pip's last lines say why."
# Kept compiled even where PYTHONDONTWRITEBYTECODE is set, for every run is a process that imports all of this again.
step "4/4 compiling what runs import" env PYTHONDONTWRITEBYTECODE= "$VENV/bin/python" deploy/local/compile_imports.py ||
    refuse "K2 itself can't be imported from $VENV; the last lines say why."
echo "k2: $VENV is ready"
