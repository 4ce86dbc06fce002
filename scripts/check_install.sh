#!/usr/bin/env bash
# What a user installs: the crate's archive and its size, the documentation, the wheel, its program and its module.
#
#   scripts/check_install.sh [--release]
#
# Prints `test NAME ... ok` or FAILED for each part, as tests do, and `skipped: WHY` below the name of one that cannot be
# tried here. The wheel is built from the same objects as the tests unless --release asks for the one to publish; its
# size is only then held to the limit. The exit status is 1 if a part failed.
set -uo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
profile=dev
[[ ${1:-} == --release ]] && profile=release
target=${CARGO_TARGET_DIR:-$PWD/target}
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
passed=0 failed=0

part() {
    local name=$1
    printf '\n---- %s stdout ----\n' "$name"
    if "$name"; then
        printf 'test %s ... ok\n' "$name"
        passed=$((passed + 1))
    else
        printf 'test %s ... FAILED\n' "$name"
        failed=$((failed + 1))
    fi
}

# Bytes of a file against a limit in MB, as registries count them.
at_most() {
    local bytes
    bytes=$(wc -c <"$1")
    printf '%s: %s bytes, of at most %s MB\n' "$(basename -- "$1")" "$bytes" "$2"
    ((bytes <= $2 * 1000 * 1000))
}

documentation() {
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --lib
}

# The archive as crates.io takes it, checked from what it holds: another build of everything would take as long as all tests.
crate_archive() {
    cargo package --locked --allow-dirty --no-verify --quiet || return
    local archive folder
    archive=$(ls -t "$target"/package/wattention-*.crate | head -n 1)
    at_most "$archive" 10 || return
    tar -xzf "$archive" -C "$work" || return
    folder=$work/$(basename -- "$archive" .crate)
    [[ -d $folder/kernels && -f $folder/weights/tiny-led/model.safetensors ]] || return
    # Without the simulator, whose kernels were compiled once already.
    (cd -- "$folder" && CXX=false NVCC=none CARGO_TARGET_DIR=$target cargo check --locked --quiet)
}

environment() {
    python3 -m venv "$work/environment" 2>/dev/null &&
        "$work/environment/bin/pip" install --quiet --disable-pip-version-check --retries 1 'maturin>=1.9,<2' pytest
}

wheel() {
    if ! environment; then
        printf 'skipped: maturin and pytest cannot be installed here\n'
        return 0
    fi
    local bin=$work/environment/bin built
    PATH=$bin:$PATH maturin build --locked --profile "$profile" --target-dir "$target" --out "$work/wheels" \
        --quiet || return
    built=$(ls "$work"/wheels/*.whl)
    if [[ $profile == release ]]; then
        at_most "$built" 30 || return
    fi
    "$bin/pip" install --quiet --disable-pip-version-check --no-index "$built" || return
    # Neither the checkout nor a cargo is in reach.
    (cd "$work" && PATH=$bin:/usr/bin:/bin "$bin/python" -m pytest --quiet -p no:cacheprovider \
        "$OLDPWD/python/tests")
}

part documentation
part crate_archive
part wheel
printf '\ntest result: %s. %d passed; %d failed\n' "$([[ $failed == 0 ]] && echo ok || echo FAILED)" "$passed" "$failed"
exit $((failed > 0))
