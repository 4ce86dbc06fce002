#!/usr/bin/env bash
# Everything that only a machine with an NVIDIA GPU can tell, from a binary that was built elsewhere.
#
#   scripts/gpu.sh [--binary PATH] [--out DIR] [--minutes N]
#
# --binary   the program (target/release/wattention)
# --out      where results go ($OUT, or benches/results/ and the GPU's name)
# --minutes  for all of it (6); every part has its own limit, so that one that hangs does not cost the others
#
# Needs python3 (or WATTENTION_PYTHON) with torch, transformers, numpy and safetensors; no cargo, no network.
# compute-sanitizer runs if it is in PATH or CUDA_HOME/bin. A line per part goes to stderr, and summary.json has them
# all; scripts/gpu_report.py says what the other files are. The exit status is 1 if a check of correctness failed or
# ran out of time.
#
# What can be wrong comes first, and of the attention kernels both: by mma.sync and, on an H100 or H200, by wgmma. Where
# summary.json says under `engines` that hopper was right and faster, and its results are committed, Engine::DEFAULT in
# src/device/engine.rs may be turned.
#
# WATTENTION_GPU_DEVICE=sim is a rehearsal on a machine without a GPU: the checks run on the simulator, and what
# measures is skipped. Allow it more --minutes.
set -euo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
exec </dev/null

note() {
    printf 'gpu.sh: %s\n' "$1" >&2
}

fail() {
    note "$1"
    exit 2
}

binary=target/release/wattention
out=${OUT:-}
minutes=6
while (($#)); do
    case $1 in
    --binary | --out | --minutes)
        [[ $# -ge 2 ]] || fail "$1 needs a value"
        case $1 in
        --binary) binary=$2 ;;
        --out) out=$2 ;;
        --minutes) minutes=$2 ;;
        esac
        shift 2
        ;;
    *) fail "usage: scripts/gpu.sh [--binary PATH] [--out DIR] [--minutes N]" ;;
    esac
done
[[ $minutes =~ ^[1-9][0-9]{0,3}$ ]] || fail "--minutes is a whole number of minutes, not $minutes"
[[ -x $binary && -f $binary ]] || fail "$binary is no program; build it (cargo build --release) or give --binary"
python=${WATTENTION_PYTHON:-python3}
command -v -- "$python" >/dev/null || fail "$python is not here; install Python 3.9 or newer, or set WATTENTION_PYTHON"
device=${WATTENTION_GPU_DEVICE:-cuda}
binary=$(realpath -- "$binary")

deadline=$((SECONDS + 60 * minutes))
wrong=0
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
: >"$work/parts"

now() {
    date +%s.%N
}

# record NAME OUTCOME SECONDS WHY: results are written after every part, so that a script that is killed leaves them.
record() {
    local why=${4//[$'\t\n']/ }
    printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$why" >>"$work/parts"
    note "$(printf '%-18s %-9s %7.1f s  %s' "$1" "$2" "$3" "$why")"
    [[ -z $out ]] || "$python" scripts/gpu_report.py "$work" "$out" || note "the results could not be written to $out"
}

skip() {
    record "$1" skipped 0 "$2"
}

# part NAME SECONDS COMMAND...: limits are for 9 minutes in all and grow with --minutes.
part() {
    local name=$1 limit=$(($2 * minutes / 9)) left=$((deadline - SECONDS)) began status=0 why outcome=ok
    shift 2
    if ((left < 5)); then
        skip "$name" "no time is left"
        return
    fi
    began=$(now)
    limit=$((limit < left ? (limit > 0 ? limit : 1) : left))
    timeout --kill-after=5 "$limit" "$@" \
        >"$work/$name.out" 2>"$work/$name.err" || status=$?
    case $status in
    0) why="" ;;
    124 | 137)
        outcome="timed out"
        why="stopped after $limit s; --minutes gives more $(tail -n 1 -- "$work/$name.err" | cut -c -200)"
        ;;
    *)
        outcome=failed
        # A sanitizer's findings are on stdout, most important first.
        why="exit $status: $({ grep -h -m 6 -E '^(FAILED|=========|error)' -- "$work/$name.err" "$work/$name.out" ||
            tail -n 4 -- "$work/$name.err"; } | cut -c -200)"
        ;;
    esac
    record "$name" "$outcome" "$(awk -v a="$began" -v b="$(now)" 'BEGIN { printf "%.2f", b - a }')" "$why"
    [[ $outcome == ok ]]
}

# A part that must be right.
check() {
    part "$@" || wrong=1
}

# What else there is to lose is a measurement.
measure() {
    part "$@" || true
}

kebab() {
    tr '[:upper:]' '[:lower:]' | sed 's/[^a-z0-9]\{1,\}/-/g; s/^-//; s/-$//'
}

precisions=(fp32 tf32 bf16)
program=("$binary" --json --quiet)
parity=("$python" scripts/gpu_parity.py --binary "$binary" --device "$device")

check doctor 20 "$binary" doctor --json -v
if [[ -z $out ]]; then
    name=$device
    if [[ $device == cuda* ]]; then
        name=$("$python" -c 'import json, sys; print(json.load(sys.stdin)["cuda"]["gpus"][0]["name"])' \
            <"$work/doctor.out" 2>/dev/null | kebab) || name=no-gpu
    fi
    out=benches/results/$name
fi

for precision in "${precisions[@]}" tf32x3; do
    check "selftest-$precision" 40 "${program[@]}" doctor --selftest --device "$device" --precision "$precision"
done
for what in states tokens repeat; do
    for precision in "${precisions[@]}"; do
        check "$what-$precision" 45 "${parity[@]}" --precision "$precision" "$what"
    done
done

engines=(mma)
if refusal=$(WATTENTION_ATTENTION=hopper timeout --kill-after=5 30 "${program[@]}" bench attention --device "$device" \
    --precision bf16 --kind window --pass forward --lengths 64 --heads 1 --warmup-seconds 0 --seconds 0.001 \
    2>&1 >/dev/null); then
    engines=(hopper mma)
    for what in states repeat; do
        check "$what-bf16-hopper" 45 env WATTENTION_ATTENTION=hopper "${parity[@]}" --precision bf16 "$what"
    done
else
    skip states-bf16-hopper "$(tail -n 1 <<<"$refusal")"
fi

sanitizer=$(command -v compute-sanitizer || true)
if [[ -z $sanitizer && -x ${CUDA_HOME:-}/bin/compute-sanitizer ]]; then
    sanitizer=$CUDA_HOME/bin/compute-sanitizer
fi
for tool in memcheck racecheck; do
    if [[ $device != cuda* ]]; then
        skip "$tool" "$device has no GPU"
    elif [[ -z $sanitizer ]]; then
        skip "$tool" "compute-sanitizer is neither in PATH nor in CUDA_HOME/bin"
    else
        check "$tool" 75 "$sanitizer" --tool "$tool" --error-exitcode 9 "${program[@]}" \
            doctor --selftest --device "$device" --precision fp32
        # The bf16 cases run by both kinds of attention kernels.
        check "$tool-bf16" 75 "$sanitizer" --tool "$tool" --error-exitcode 9 "${program[@]}" \
            doctor --selftest --device "$device" --precision bf16
    fi
done

config=benches/baselines/led-base/config.json
for precision in "${precisions[@]}"; do
    if [[ $device != cuda* ]]; then
        skip "kernels-$precision" "$device measures nothing"
    else
        measure "kernels-$precision" 20 "${program[@]}" bench kernels --device "$device" --precision "$precision" \
            --warmup-ms 10 --time-ms 30
    fi
    for length in 1024 4096 16384; do
        part_name=kernels-$precision-$length
        if [[ $device != cuda* ]]; then
            skip "$part_name" "$device measures nothing"
        else
            measure "$part_name" 15 "${program[@]}" bench step --device "$device" --precision "$precision" \
                --config "$config" --mode train --max-source-length "$length" --warmup 2 --repeat 5 --kernels
        fi
    done
done

if [[ $device != cuda* ]]; then
    skip limits "$device measures nothing"
    skip attention "$device measures nothing"
    skip profile "$device measures nothing"
else
    limits=()
    measure limits 20 "${program[@]}" bench limits --device "$device" --save "$work/limits.json"
    [[ ! -s $work/limits.json ]] || limits=(--limits "$work/limits.json")
    for engine in "${engines[@]}"; do
        measure "attention-$engine" 20 "${program[@]}" bench attention --device "$device" --precision bf16 \
            --engine "$engine" --kind window --lengths 4096,16384 --batch-size 1,4 --warmup-seconds 0.1 \
            --seconds 0.2 "${limits[@]}"
    done
    measure attention 60 "${program[@]}" bench attention --device "$device" --precisions fp32,tf32,tf32x3,bf16 \
        --lengths 1024,4096,16384 --warmup-seconds 0.1 --seconds 0.1 "${limits[@]}"
    measure profile 90 "${program[@]}" profile step --device "$device" --precision bf16 --config "$config" \
        --max-source-length 4096 --seconds 3 --replay-seconds 1 --trials 2 --cooldown 0.5 --in-place-seconds 10 \
        "${limits[@]}"
fi

# Attention and decoding beside what there is for PyTorch; comparisons write their results row by row.
compare() {
    local name=$1 limit=$2 script=$3
    shift 3
    if [[ $device != cuda* ]]; then
        skip "$name" "$device measures nothing"
        return
    fi
    measure "$name" "$limit" "$python" "benches/baselines/$script" --device cuda --wattention "$binary" \
        --python "$python" --output "$work/$name.json" "$@"
    [[ ! -s $work/$name.out ]] || cat -- "$work/$name.out" >&2
}

compare attention-peers 75 compare_attention.py --engines "${engines[@]}" --precision bf16 --kinds window dense \
    --peers flex cudnn flash-attn --lengths 4096 --batch-size 4 --rounds 1 --seconds 0.1
compare generate-peers 60 compare_generate.py --precisions bf16 --batch-size 4 --beams 1 4 --max-source-length 4096 \
    --rounds 1

# Both sides in turn; what time is left is shared. The longest input is not last, where time may run out.
waiting=${#precisions[@]}
for precision in "${precisions[@]}"; do
    left=$((deadline - SECONDS))
    compare "steps-$precision" "$((left * 9 / minutes / waiting))" compare.py --precision "$precision" \
        --lengths 4096 16384 1024 --modes forward forward-backward train --rounds 2 --warmup 3 --repeat 8
    waiting=$((waiting - 1))
done

note "results are in $out"
exit "$wrong"
