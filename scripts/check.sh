#!/usr/bin/env bash
# The one test command: formatting, lints, then the unit, integration and golden tests.
#
#   scripts/check.sh
#
# Needs cargo with rustfmt and clippy, a C compiler and python3; no GPU, no terminal. The last line is
# `N passed, N failed, N skipped`, summed over all test binaries; the exit status is 0 only if none failed.
#
# The kernels are compiled by nvcc and g++. Where there is no nvcc, NVIDIA's wheels of it are fetched from PyPI, once,
# into ~/.cache/wattention (or WATTENTION_NVCC_DIR); without them, what needs nvcc is skipped.
#
# At the end every kernel runs on every case once more, with AddressSanitizer and UndefinedBehaviorSanitizer in it;
# WATTENTION_SANITIZE=0 leaves the two out.
#
# What a user installs is tried, too: scripts/check_install.sh (the crate's archive, the documentation, the wheel).
#
# A test that cannot run here is either #[ignore = "why"], or prints `skipped: WHY` and returns; both are counted as
# skipped and named at the end. So are the study's report in a browser where there is no Chromium, the wheel where maturin
# cannot be fetched, and the commands of docs that a comment leaves out (`left out: WHERE: WHY`). With
# WATTENTION_PYTHON naming an interpreter that has torch and transformers, saved models are loaded there, and models drawn at
# random are compared with it.
set -euo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
exec </dev/null
export CARGO_TERM_COLOR=never

note() {
    printf 'check.sh: %s\n' "$1" >&2
}

fail() {
    note "$1"
    exit 1
}

step() {
    printf '\n== %s\n' "$*"
    "$@"
}

nvcc_dir=${WATTENTION_NVCC_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/wattention/nvcc-13.0}

# Looks where build.rs does.
find_nvcc() {
    [[ -n ${NVCC:-} ]] && return
    local home
    for home in "${CUDA_HOME:-}" "${CUDA_PATH:-}" "$nvcc_dir/nvidia/cu13"; do
        [[ -n $home && -x $home/bin/nvcc ]] && return
    done
    command -v nvcc >/dev/null
}

# install DIR PACKAGE...: the folder appears complete or not at all, so that a broken download leaves nothing behind.
install() {
    local dir=$1 unfinished
    shift
    mkdir -p -- "$(dirname -- "$dir")" || return
    unfinished=$(mktemp -d -- "$dir.XXXXXX") || return
    if ! PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check --no-deps --retries 1 \
        --target "$unfinished" "$@" ||
        ! python3 -c 'import os, sys; os.rename(*sys.argv[1:])' "$unfinished" "$dir"; then
        rm -rf -- "$unfinished"
        return 1
    fi
}

install_nvcc() {
    local parts=(nvidia-cuda-nvcc nvidia-nvvm nvidia-cuda-runtime nvidia-cuda-crt nvidia-cuda-cccl)
    install "$nvcc_dir" "${parts[@]/%/==13.0.*}" || return
    # Cargo does not watch a folder that was not there.
    touch build.rs
}

# What reads machine code; the first release that is on PyPI, which reads older code as well.
install_tools() {
    [[ -e $nvcc_dir-tools ]] || command -v nvdisasm >/dev/null || [[ ! -d $nvcc_dir ]] ||
        install "$nvcc_dir-tools" nvidia-cuda-nvdisasm==13.2.* nvidia-cuda-cuobjdump==13.2.*
}

# Parsed, not imported: most scripts need packages that this command does not.
parse_python() {
    python3 -c 'import ast, sys; [ast.parse(open(f, encoding="utf-8").read(), f) for f in sys.argv[1:]]' "$@"
}

command -v cargo >/dev/null || fail "cargo is not here; install Rust from https://rustup.rs"
cargo fmt --version >/dev/null 2>&1 || fail "rustfmt is not here; run: rustup component add rustfmt"
cargo clippy --version >/dev/null 2>&1 || fail "clippy is not here; run: rustup component add clippy"
command -v cc >/dev/null || fail "cc, the C compiler that Rust links with, is not here; install gcc or clang"
command -v python3 >/dev/null || fail "python3 is not here; install Python 3.9 or newer"
if [[ -z ${NVCC_CCBIN:-} ]] && ! command -v g++ >/dev/null; then
    note "g++, which nvcc needs, is not here (install it, or name another C++ compiler in NVCC_CCBIN)"
    export NVCC=none
elif ! find_nvcc && ! step install_nvcc; then
    note "nvcc could not be fetched: what needs it is skipped"
fi
install_tools || note "nvdisasm could not be fetched: the kernels' bounds are not looked at"

# What is built from nothing gains nothing from incremental compilation, and pays for it.
if ! compgen -G "${CARGO_TARGET_DIR:-target}/debug/incremental/*" >/dev/null; then
    export CARGO_INCREMENTAL=${CARGO_INCREMENTAL:-0}
fi

# A build that runs once.
unoptimised=profile.dev.package.wattention.opt-level=0

# Here, and not for users, a compiler's warning or refusal ends the build.
export WATTENTION_STRICT=1

step parse_python scripts/*.py benches/baselines/*.py python/*/*.py
step cargo fmt --check || fail "the formatting differs; run: cargo fmt"
# Clippy builds in folders of its own, where nvcc would compile the kernels a second time.
step env NVCC=none cargo clippy --locked --all-targets -- -D warnings
# Built apart, so that a failure to compile is not mistaken for a failed test.
step cargo test --locked --no-run

log=$(mktemp)
trap 'rm -f -- "$log"' EXIT
status=0
# What passing tests print is shown, for it may be why they were skipped.
step cargo test --locked --no-fail-fast -- --show-output 2>&1 | tee -- "$log" || status=$?

# The study's report as a reader meets it; without a browser the script says so and leaves with 77.
browsed=0
printf '\n---- report_check stdout ----\n' >>"$log"
step python3 scripts/report_check.py "${CARGO_TARGET_DIR:-target}/debug/wattention" 2>&1 | tee -a -- "$log" || browsed=$?
case $browsed in
    0 | 77) printf 'test result: ok. 1 passed; 0 failed\n' >>"$log" ;;
    *)
        printf 'test report_check ... FAILED\ntest result: FAILED. 0 passed; 1 failed\n' >>"$log"
        status=$browsed
        ;;
esac

# The machine code of the attention kernels, against the committed table; without nvcc or nvdisasm it leaves with 77.
bounded=0
printf '\n---- kernel_bounds stdout ----\n' >>"$log"
bounds=benches/results/static/kernel-bounds.json
step python3 scripts/kernel_bounds.py --check "$bounds" 2>&1 | tee -a -- "$log" || bounded=$?
case $bounded in
    0 | 77) printf 'test result: ok. 1 passed; 0 failed\n' >>"$log" ;;
    *)
        printf 'test kernel_bounds ... FAILED\ntest result: FAILED. 0 passed; 1 failed\n' >>"$log"
        status=$bounded
        ;;
esac

installed=0
step scripts/check_install.sh 2>&1 | tee -a -- "$log" || installed=$?
((installed == 0)) || status=$installed

# Several ranks of one run, where MPI and what its binding is made with are here.
if command -v mpicc >/dev/null && command -v mpirun >/dev/null &&
    { [[ -n ${LIBCLANG_PATH:-} ]] || compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null; }; then
    # Another build, in which nvcc would compile the kernels a second time; optimising it takes longer than it runs.
    step env NVCC=none cargo --config "$unoptimised" test --locked --no-fail-fast --features mpi --test cli -- \
        --show-output ranks:: 2>&1 | tee -a -- "$log" || status=$?
else
    note "MPI is not here (Debian: openmpi-bin libopenmpi-dev libclang-dev): runs by several ranks are not tried"
    printf '\n---- ranks stdout ----\nskipped: there is no MPI\n' >>"$log"
fi

if command -v c++ >/dev/null; then
    # The same tests, on the kernels of kernels/*.cu; those of compute capability 9.0 were simulated above.
    export WATTENTION_TEST_DEVICE=sim
    kernels=(ops:: models:: training:: generation:: --skip ops::hopper)
    step cargo test --locked --no-fail-fast --test engine -- --show-output "${kernels[@]}" 2>&1 | tee -a -- "$log" || status=$?
    program=${CARGO_TARGET_DIR:-target}/debug/wattention how=''
    if [[ ${WATTENTION_SANITIZE:-1} == 0 ]]; then
        note "WATTENTION_SANITIZE=0: the kernels are not sanitized"
    elif ! c++ -x c++ -fsanitize=address,undefined -o /dev/null - <<<'int main() {}' 2>/dev/null; then
        note "c++ has no sanitizers (install libasan and libubsan): the kernels are not sanitized"
        printf '\n---- sanitizers stdout ----\nskipped: c++ has none\n' >>"$log"
    else
        # Fibers move between stacks, which the sanitizer is told not to follow.
        export WATTENTION_SIM_SANITIZE=address,undefined
        export ASAN_OPTIONS=detect_stack_use_after_return=0:detect_leaks=0:verify_asan_link_order=0
        # Another build, beside the others: not optimised, not for GPUs, and of the program alone.
        how=_under_sanitizers
        step env NVCC=none cargo --config "$unoptimised" build --locked --bin wattention || status=$?
    fi
    for precision in fp32 tf32 bf16; do
        test=the_self_test${how}_in_$precision
        if step "$program" doctor --selftest --device sim --precision "$precision"; then
            printf 'test %s ... ok\ntest result: ok. 1 passed; 0 failed\n' "$test" >>"$log"
        else
            printf 'test %s ... FAILED\ntest result: FAILED. 0 passed; 1 failed\n' "$test" >>"$log"
            status=1
        fi
    done
else
    note "c++ is not here: the kernels are not simulated"
    printf '\n---- kernels stdout ----\nskipped: there is no C++ compiler\n' >>"$log"
fi

awk -v status="$status" '
    /^(failures|successes):$/      { falls = /^failures/; tells = 0 }
    /^stack backtrace:$/           { tells = 0 }
    /^---- .* stdout ----$/        { name = $2; tells = falls ? 12 : 0; next }
    # What a failed test said, up to its stack.
    tells > 0 && NF > 0            { tells--; told[name] = told[name] "    " $0 "\n" }
    /^skipped: /                   { sub(/^skipped/, name); missing[++lacking] = $0 }
    # A part of a test that passed.
    /^left out: /                  { sub(/^left out: /, ""); parts[++fewer] = $0 }
    /^test .* \.\.\. ignored/      { sub(/^test /, ""); sub(/ \.\.\. ignored/, ""); ignored[++left_out] = $0 }
    /^test .* \.\.\. FAILED$/      { sub(/^test /, ""); sub(/ \.\.\. FAILED$/, ""); broken[++fallen] = $0 }
    /^test result: /               { passed += $4; failed += $6 }
    END {
        if (status != 0 && failed == 0) {
            broken[++fallen] = "a test binary ended without a result; see above"
            failed = 1
        }
        if (passed + failed == 0) {
            broken[++fallen] = "no test ran"
            failed = 1
        }
        print ""
        for (i = 1; i <= left_out; i++) print "skipped " ignored[i]
        for (i = 1; i <= lacking; i++) print "skipped " missing[i]
        for (i = 1; i <= fewer; i++) print "skipped " parts[i]
        for (i = 1; i <= fallen; i++) printf "failed %s\n%s", broken[i], told[broken[i]]
        print passed - lacking " passed, " failed + 0 " failed, " left_out + lacking + fewer " skipped"
        exit failed > 0
    }' "$log"
