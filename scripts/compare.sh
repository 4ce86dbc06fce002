#!/usr/bin/env bash
# wattention beside PyTorch, and CTranslate2, on the same work, all sides in turn, and the table of their ratios.
#
#   scripts/compare.sh attention|step|generate|ranks [FLAGS]
#
# attention  window, block-sparse and dense, forward and backward, at 1024 to 8192 tokens: FlexAttention, SDPA and the
#            attention of transformers (benches/baselines/compare_attention.py)
# step       a model step beside transformers (compare.py)
# generate   generation beside transformers and, with --model benches/baselines/bart-base, CTranslate2
#            (compare_generate.py)
# ranks      a training step by several ranks of this machine beside one (compare_ranks.py): weak scaling, no peer
#
# FLAGS go to the script; with --help it says which there are. WATTENTION_PYTHON is a Python with torch and transformers
# (python3). The program is target/release/wattention, built where it is not there, or what --wattention names.
# --output FILE.json keeps everything. Run it on a machine that does nothing else; attention takes about ten minutes.
set -euo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

fail() {
    printf 'compare.sh: %s\n' "$1" >&2
    exit 2
}

what=${1:-}
case $what in
attention) script=compare_attention.py ;;
step) script=compare.py ;;
generate) script=compare_generate.py ;;
ranks) script=compare_ranks.py ;;
*) fail "usage: scripts/compare.sh attention|step|generate|ranks [FLAGS]" ;;
esac
shift

python=${WATTENTION_PYTHON:-python3}
command -v -- "$python" >/dev/null || fail "$python is not here; install Python 3.9 or newer, or set WATTENTION_PYTHON"
named=0
for word in "$@"; do
    case $word in
    --wattention | --wattention=*) named=1 ;;
    -h | --help) exec "$python" "benches/baselines/$script" --help ;;
    esac
done
[[ $what == ranks ]] || "$python" -c 'import torch, transformers' 2>/dev/null ||
    fail "$python has no torch and transformers; install them, or set WATTENTION_PYTHON to a Python that has them"
if ((!named)) && [[ ! -x target/release/wattention ]]; then
    command -v cargo >/dev/null || fail "target/release/wattention is not there, and cargo is not either: give --wattention"
    cargo build --release
fi
[[ $what == ranks ]] || set -- --python "$python" "$@"
exec "$python" "benches/baselines/$script" "$@"
