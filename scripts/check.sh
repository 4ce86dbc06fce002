#!/usr/bin/env bash
# The one test command: formatting, lints, then the unit, integration and golden tests.
#
#   scripts/check.sh
#
# Needs cargo with rustfmt and clippy, a C compiler and python3; no GPU, no terminal. The last line is
# `N passed, N failed, N skipped`, summed over all test binaries; the exit status is 0 only if none failed.
#
# A test that cannot run here is either #[ignore = "why"], or prints `skipped: WHY` and returns; both are counted as
# skipped and named at the end. With WATTENTION_PYTHON naming an interpreter that has torch and transformers, saved
# models are loaded there, too.
set -euo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
exec </dev/null
export CARGO_TERM_COLOR=never

fail() {
    printf 'check.sh: %s\n' "$1" >&2
    exit 1
}

step() {
    printf '\n== %s\n' "$*"
    "$@"
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

step parse_python scripts/*.py benches/baselines/*.py
step cargo fmt --check || fail "the formatting differs; run: cargo fmt"
step cargo clippy --locked --all-targets -- -D warnings
# Built apart, so that a failure to compile is not mistaken for a failed test.
step cargo test --locked --no-run

log=$(mktemp)
trap 'rm -f -- "$log"' EXIT
status=0
# What passing tests print is shown, for it may be why they were skipped.
step cargo test --locked --no-fail-fast -- --show-output 2>&1 | tee -- "$log" || status=$?

awk -v status="$status" '
    /^---- .* stdout ----$/        { name = $2 }
    /^skipped: /                   { sub(/^skipped/, name); missing[++lacking] = $0 }
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
        for (i = 1; i <= fallen; i++) print "failed " broken[i]
        print passed - lacking " passed, " failed + 0 " failed, " left_out + lacking " skipped"
        exit failed > 0
    }' "$log"
