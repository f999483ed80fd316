# Words that the scripts here share: sourced first by each of them, never run.
#
# Each script can be run by hand. It installs what it needs; where that cannot be had it says so in a line that begins with
# "skipped:", and goes on. What fails for another reason makes its exit status 1. What takes too long for every run of CI
# it does with `--full`.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${CARGO_TARGET_DIR:-$PWD/target}
case $target in /*) ;; *) target=$PWD/$target ;; esac
mkdir -p "$target"
export PATH=$target/tools/bin:$PATH

full=no
for argument in "$@"; do
    if [ "$argument" = --full ]; then full=yes; fi
done

say() { printf -- '-- %s\n' "$*"; }

# `.ci/run` repeats at its end what was skipped.
skip() {
    printf 'skipped: %s\n' "$*"
    if [ -n "${CI_SKIPPED:-}" ]; then printf '%s\n' "$*" >>"$CI_SKIPPED"; fi
}

# So long, with a unit, since the time given in seconds.
since() { printf '%d s' "$((SECONDS - $1))"; }

# Whether these packages of Debian are there, installed now if need be.
packages() {
    local package missing=()
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    if [ ${#missing[@]} = 0 ]; then return 0; fi
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then return 1; fi
    if ! apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1; then
        apt-get update >/dev/null 2>&1 || true
        apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1
    fi
}

# Whether this program of cargo's is there; built now if need be, into the target directory. `tool cargo-hack`
tool() {
    if command -v "$1" >/dev/null; then return 0; fi
    say "building $1"
    CARGO_TARGET_DIR=$target/tools/build CARGO_PROFILE_RELEASE_LTO=off cargo install --quiet --locked --root "$target/tools" "$@"
}

# Whether this program of Python's index is there, with a version so that a new release breaks nothing.
python_tool() {
    if command -v "$1" >/dev/null; then return 0; fi
    packages python3 python3-venv || return 1
    python3 -m venv "$target/tools/python" >/dev/null && "$target/tools/python/bin/pip" install --quiet "$1==$2" >/dev/null 2>&1 || return 1
    mkdir -p "$target/tools/bin"
    ln -sf "$target/tools/python/bin/$1" "$target/tools/bin/$1"
}

# Debian's newest Rust: the one compiler here whose standard library comes with its source, so that it can be built for
# any target. It lives beside rustup's, and `debian_cargo` alone uses it.
debian_rust() { packages rustc-web cargo-web rust-web-src; }
build_std=-Zbuild-std=std,test,panic_abort,panic_unwind
debian_cargo() {
    env -u RUSTUP_TOOLCHAIN PATH=/usr/bin:/usr/sbin:/bin:/sbin RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 \
        CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_TEST_DEBUG=0 /usr/bin/cargo "$@"
}

# Puts the library and its tests into this directory, without the example programs, their tests, the benches, and what is
# depended on for those alone: for other systems, where building all of it would cost more than it shows.
lean_copy() {
    rm -rf "$1"
    mkdir -p "$1"
    git ls-files -z --cached --others --exclude-standard -- Cargo.toml Cargo.lock clippy.toml README.md src tests docs |
        xargs -0 cp --parents -t "$1"
    rm -rf "$1/tests/programs"
    local programs='^(bytemuck|clap|criterion|ctrlc|env_logger|hdrhistogram|httparse|httpdate|indicatif|listenfd|plotters|redis-protocol|serde_json) *='
    awk -v programs="$programs" '
        /^\[/ {dev = /dev-dependencies/; drop = /^\[\[(bench|example)\]\]/}
        !drop && !(dev && $0 ~ programs)' Cargo.toml >"$1/Cargo.toml"
    # What is left keeps its version.
    (cd "$1" && cargo update --quiet --workspace)
}
