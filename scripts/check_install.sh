#!/usr/bin/env bash
# What a user installs: the documentation, the crate's archive, the wheel with its program and its Python module.
#
#   scripts/check_install.sh              # with the objects of the tests: what scripts/check.sh runs
#   scripts/check_install.sh --release    # what is published: sizes, self-test, and the quick study from an empty folder
#
# Prints `test NAME ... ok` or FAILED for each part, as tests do, and `skipped: WHY` below the name of one that cannot be
# tried here. With --release the wheel is linked by zig for manylinux_2_28 and is left in target/wheels; that takes two
# builds of the release profile, and the study some minutes for each program. The exit status is 1 if a part failed.
set -uo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
repository=$PWD
target=${CARGO_TARGET_DIR:-$PWD/target}
published=false
[[ ${1:-} == --release ]] && published=true
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

# The quick study by a program, in an empty folder, with an empty home and without the checkout.
first_look() {
    local folder
    folder=$(mktemp -d -p "$work")
    mkdir "$folder/home"
    (cd -- "$folder" && time env -i HOME="$folder/home" PATH=/usr/bin:/bin "$1" study --quiet) &&
        [[ -s $folder/runs/study/report.html ]]
}

documentation() {
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --lib
}

# The archive as crates.io takes it, and whether what it holds compiles; another build of everything would take as long
# as all tests.
crate_archive() {
    cargo package --locked --allow-dirty --no-verify --quiet || return
    local archive folder
    archive=$(ls -t "$target"/package/wattention-*.crate | head -n 1)
    at_most "$archive" 10 || return
    tar -xzf "$archive" -C "$work" || return
    folder=$work/$(basename -- "$archive" .crate)
    [[ -d $folder/kernels && -f $folder/weights/tiny-led/model.safetensors ]] || return
    # Without the simulator, whose kernels were compiled once already. Cargo takes the package for the checkout's, and
    # would build that anew; of another profile it is another one.
    (cd -- "$folder" && CXX=false NVCC=none CARGO_TARGET_DIR=$target \
        cargo --config profile.dev.package.wattention.opt-level=0 check --locked --quiet)
}

environment() {
    local packages=('maturin[zig]>=1.9,<2' pytest)
    $published || packages=('maturin>=1.9,<2' pytest)
    python3 -m venv "$work/environment" 2>/dev/null &&
        "$work/environment/bin/pip" install --quiet --disable-pip-version-check --retries 1 "${packages[@]}"
}

wheel() {
    if ! environment; then
        printf 'skipped: maturin and pytest cannot be installed here\n'
        return 0
    fi
    local bin=$work/environment/bin out=$work/wheels built form=(--profile dev)
    if $published; then
        out=$target/wheels form=(--release --zig --compatibility manylinux_2_28)
        rm -f -- "$out"/*.whl
    fi
    # maturin finds zig by the path; without it the path stays as it was, for a changed one builds the program anew.
    local path=$PATH
    $published && path=$bin:$PATH
    PATH=$path "$bin/maturin" build --locked "${form[@]}" --target-dir "$target" --out "$out" --quiet || return
    built=$(ls "$out"/*.whl)
    "$bin/pip" install --quiet --disable-pip-version-check --no-index "$built" || return
    # Neither the checkout nor cargo is in reach of what is installed.
    (cd -- "$work" && PATH=$bin:/usr/bin:/bin "$bin/python" -m pytest --quiet -p no:cacheprovider \
        "$repository/python/tests") || return
    $published || return 0
    "$bin/wattention" --version
    at_most "$built" 30 && "$bin/wattention" doctor --selftest --device sim && first_look "$bin/wattention"
}

installed_by_cargo() {
    cargo install --locked --path . --root "$work/cargo" --target-dir "$target" --quiet &&
        first_look "$work/cargo/bin/wattention"
}

part documentation
part crate_archive
part wheel
$published && part installed_by_cargo
printf '\ntest result: %s. %d passed; %d failed\n' "$([[ $failed == 0 ]] && echo ok || echo FAILED)" "$passed" "$failed"
exit $((failed > 0))
