#!/usr/bin/env bash
# tools/install.sh              makes .venv and installs gs4d and what it needs into it, with uv where there is one
# tools/install.sh extra NAME   adds the packages of an extra of pyproject.toml: dev for the tests, diffusion, mesh, ...
# tools/install.sh native       builds the native code again after a change to submodules/native
# tools/install.sh viewer       installs what builds and tries the page in viewer/: node, its packages, and Chromium
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    printf 'gs4d: %s\n' "$*" >&2
    exit 1
}

has_compiler() { echo '#include <vector>' | "${CXX:-c++}" -x c++ -fsyntax-only - 2>/dev/null; }

# A Python that can make a virtual environment and has the headers that the native code is built against.
find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
        if "$candidate" -c '
import pathlib, sys, sysconfig, venv, ensurepip
sys.exit(sys.version_info < (3, 10) or not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())
' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

# Tries to install the named packages where there is apt; whoever needs them says what is missing when that failed.
apt_install() {
    (($#)) || return 0
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
    elif command -v apt-get >/dev/null && command -v sudo >/dev/null; then
        sudo apt-get update -qq && sudo apt-get install -y -qq --no-install-recommends "$@"
    fi
}

require_tools() {
    local missing=()
    has_compiler || missing+=(g++)
    # uv brings a Python of its own where the system has none that suits.
    find_python >/dev/null || command -v uv >/dev/null || missing+=(python3-venv python3-dev)
    apt_install "${missing[@]}"
    has_compiler || fail "no working C++ compiler was found; install one (for example g++, or Xcode's command line tools)"
    find_python >/dev/null || command -v uv >/dev/null ||
        fail "no Python 3.10 or newer with venv and its C headers was found; install one (for example python3-venv python3-dev)"
}

make_venv() {
    [ -x .venv/bin/python ] && return
    rm -rf .venv
    if command -v uv >/dev/null; then
        uv venv --quiet --seed --python "$(find_python || echo '>=3.10')" .venv
    else
        "$(find_python)" -m venv .venv
    fi
}

# Every value of one of pip's settings, from its files and its environment, one per line.
pip_setting() {
    .venv/bin/python -m pip config list | sed -n "s/^.*\.$1='\(.*\)'\$/\1/p" | sed 's/\\n/ /g' | tr -s ' ' '\n' | sort -u
}

# PyPI's torch for Linux brings 3 GB of CUDA. Without an NVIDIA GPU the CPU build is taken: from the local folder that pip
# is told to look into, else from PyTorch's own index. Whether that can be reached is asked once, because the installers
# would wait for it again and again, or give up.
cpu_index=
choose_torch() {
    local index=https://download.pytorch.org/whl/cpu
    if [ "$(uname -s)" != Linux ] || [ -n "$(pip_setting find-links)" ] || nvidia-smi -L >/dev/null 2>&1; then return; fi
    if .venv/bin/python -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=10)' "$index/torch/" 2>/dev/null; then
        cpu_index=$index
    else
        echo "gs4d: $index cannot be reached, so PyPI's build of torch is taken, which is a large download" >&2
    fi
}

install() {
    local options=(-c constraints.txt) value
    if command -v uv >/dev/null; then
        # uv does not read pip's settings; with several indexes pip takes the best version of all, so uv is told to.
        options+=(--index-strategy unsafe-best-match)
        for value in $(pip_setting find-links); do options+=(--find-links "$value"); done
        for value in $(pip_setting index-url); do options+=(--default-index "$value"); done
        for value in $(pip_setting extra-index-url); do options+=(--index "$value"); done
        if [ -n "$cpu_index" ]; then export UV_TORCH_BACKEND=cpu; fi
        uv pip install --python .venv/bin/python "${options[@]}" "$@"
    else
        if [ -n "$cpu_index" ]; then options+=(--extra-index-url "$cpu_index"); fi
        # Bytecode of everything would cost a fifth of the disk and of the time; Python writes that of what is imported.
        .venv/bin/python -m pip install --no-compile "${options[@]}" "$@"
    fi
}

# Chromium tries the page; without one, or CHROMIUM=/path/to/chrome, only that trial is missing.
install_viewer() {
    local missing=()
    command -v node >/dev/null || missing+=(nodejs)
    command -v npm >/dev/null || missing+=(npm)
    [ -x "${CHROMIUM:-/usr/bin/chromium}" ] || missing+=(chromium)
    apt_install "${missing[@]}" || true
    command -v npm >/dev/null || fail "node 18 or newer with npm was not found; install it to build the page"
    (cd viewer && npm ci --ignore-scripts --no-audit --no-fund)
}

if [ "${1:-}" = viewer ]; then
    install_viewer
    exit
fi
# The packages alone: gs4d is there, and naming it again would build it again.
install_extra() {
    local packages
    packages=$(.venv/bin/python - "$1" <<'EOF'
import sys
from importlib.metadata import metadata

names, rows = metadata("gs4d").get_all("Provides-Extra"), metadata("gs4d").get_all("Requires-Dist")
if sys.argv[1] not in names:
    sys.exit(f"gs4d: there is no extra {sys.argv[1]}; there are: {', '.join(names)}")
print("\n".join(row.split(";")[0].replace(" ", "") for row in rows if row.endswith(f'extra == "{sys.argv[1]}"')))
EOF
    )
    # shellcheck disable=SC2086
    install $packages
    # open3d, which the animated mesh is made with, is linked against these.
    if [[ $packages == *open3d* ]] && ! .venv/bin/python -c 'import open3d' 2>/dev/null; then
        apt_install libusb-1.0-0 libgl1 libx11-6 libgomp1 || true
    fi
}

if [ "${1:-}" = extra ]; then
    [ -x .venv/bin/python ] || fail "there is no .venv to add to; run tools/install.sh first"
    choose_torch
    install_extra "${2:?give the name of an extra}"
    exit
fi
require_tools
if [ "${1:-}" = native ]; then
    [ -x .venv/bin/python ] || fail "there is no .venv to build into; run tools/install.sh first"
    install --no-deps --force-reinstall -e .
else
    make_venv
    choose_torch
    install -e .
fi
