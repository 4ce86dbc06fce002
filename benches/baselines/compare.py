"""Speed and memory of one model step, wattention against transformers, interleaved in one run.

    cargo build --release
    python3 benches/baselines/compare.py --python PYTHON_WITH_TORCH --output result.json
    python3 benches/baselines/compare.py --model benches/baselines/bigbird-pegasus-large --lengths 1024
    python3 benches/baselines/compare.py --device cuda --precision bf16 --modes forward train --output result.json

Each row is a length and a mode. Each round of a row runs `wattention bench step` and hf_step.py once, one right
after the other and in turn first, so that other work on the machine meets both. The table has medians over all
samples with their 20th and 80th percentiles; the ratio is transformers over wattention, above 1 where wattention is
faster or smaller: the median of the rounds' own ratios, with the least and the greatest. Memory is the largest
resident set of the process as the kernel counted it, everything included: weights, libraries and, on the Python side,
the interpreter. With --compile a third side is transformers through torch.compile, whose first run is no part of the
time; a row where it fails, or takes more than three minutes, goes without it and says why in `left_out`.

With --device cuda the transformers side is one process that stays (hf_step.py --serve), idle while wattention runs.
Memory is what the GPU held for tensors at most, as each side counts it: weights, gradients, optimizer state and
activations, without the context of the driver. A step that fails, out of memory for one, is a row that says why.

The standard library is enough for this script itself; --python must have torch and transformers.
"""

import argparse
import statistics
import sys

import sides
from sides import HERE, ROOT, as_typed, measure, percentile

COMPILED = "transformers-compiled"
MODES = ["encoder", "forward", "forward-backward", "train"]


def parse_arguments():
    parser = argparse.ArgumentParser(description="wattention against transformers, one model step.")
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 4096], help="input tokens (1024 4096)")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES[:3], help="all but train")
    parser.add_argument("--max-target-length", type=int, default=128)
    sides.add_arguments(parser)
    sides.add_model_arguments(parser, batch_size=1)
    sides.add_device_arguments(parser)
    args = parser.parse_args()
    if min(args.lengths) < 1:
        parser.error("lengths must be at least 1")
    sides.check(parser, args)
    return args


def commands(args, length, mode):
    """How each side is asked for the same step."""
    step = [
        *["--mode", mode, "--batch-size", str(args.batch_size), "--max-source-length", str(length)],
        *["--max-target-length", str(args.max_target_length), "--threads", str(args.threads)],
        *["--warmup", str(args.warmup), "--repeat", str(args.repeat), "--json"],
        *["--device", args.device, "--precision", args.precision],
    ]
    hf = [args.python, str(HERE / "hf_step.py"), "--model", str(args.model), *step]
    return {
        "wattention": [str(args.wattention), "bench", "step", "--config", str(args.model / "config.json"), *step],
        "transformers": hf,
        **({COMPILED: [*hf, "--compile"]} if args.compile else {}),
    }


def memory_key(args):
    return "max_resident_bytes" if args.device == "cpu" else "peak_bytes"


def summary(runs, memory):
    seconds = [s for run in runs for s in run["seconds"]]
    return {
        "median_s": statistics.median(seconds),
        "p20_s": percentile(seconds, 0.2),
        "p80_s": percentile(seconds, 0.8),
        memory: max(run[memory] for run in runs),
    }


def compare(args, length, mode, server):
    memory = memory_key(args)
    asked = commands(args, length, mode)
    why = sides.trial(asked[COMPILED]) if COMPILED in asked else None
    if why:
        print(f"without {COMPILED}: {why}", file=sys.stderr, flush=True)
        del asked[COMPILED]
    rounds = sides.in_turn(f"{length} {mode}", args.rounds, list(asked), lambda side: measure(asked[side], server))
    summed = {side: summary([one[side] for one in rounds], memory) for side in asked}

    def ratio(peer):
        return sides.spread([median_of(one, peer) / median_of(one, "wattention") for one in rounds])

    return {
        "max_source_length": length,
        "mode": mode,
        **summed,
        "speed_ratio": ratio("transformers"),
        **({"compiled_speed_ratio": ratio(COMPILED)} if COMPILED in asked else {}),
        **({"left_out": {COMPILED: why}} if why else {}),
        "memory_ratio": summed["transformers"][memory] / summed["wattention"][memory],
        "commands": {side: as_typed(command) for side, command in asked.items()},
        "rounds": rounds,
    }


def median_of(one_round, side):
    return statistics.median(one_round[side]["seconds"])


def compare_or_say_why(args, length, mode, server):
    """A row, or on a GPU, where a step may not fit, the reason why there is none."""
    try:
        return compare(args, length, mode, server)
    except SystemExit as why:
        if args.device == "cpu":
            raise
        print(why, file=sys.stderr, flush=True)
        said = str(why).replace(f"{ROOT}/", "").splitlines()
        return {"max_source_length": length, "mode": mode, "failed": said[-1]}


def table(rows, memory_of):
    digits = 3 if memory_of == "max_resident_bytes" else 5

    def time(side):
        median, low, high = (f"{side[key]:.{digits}f}" for key in ("median_s", "p20_s", "p80_s"))
        return f"{median} ({low} to {high})"

    def memory(row):
        ours, theirs = (row[side][memory_of] / 2**30 for side in ("wattention", "transformers"))
        return f"{ours:.2f} / {theirs:.2f} ({row['memory_ratio']:.2f}x)"

    def faster(ratio):
        return f"{ratio['median']:.2f}x ({ratio['min']:.2f} to {ratio['max']:.2f})"

    def compiled(row):
        if not with_compiled:
            return ()
        return (time(row[COMPILED]), faster(row["compiled_speed_ratio"])) if COMPILED in row else ("left out", "")

    with_compiled = any(COMPILED in row or "left_out" in row for row in rows)
    titles = ("compiled s", "faster") if with_compiled else ()
    lines = [("tokens", "mode", "wattention s", "transformers s", "faster", *titles, "peak GiB, ours / theirs")]
    for row in rows:
        if "failed" in row:
            empty = [""] * (3 + len(titles))
            lines.append((str(row["max_source_length"]), row["mode"], "failed: " + row["failed"], *empty))
            continue
        times = (time(row["wattention"]), time(row["transformers"]), faster(row["speed_ratio"]), *compiled(row))
        lines.append((str(row["max_source_length"]), row["mode"], *times, memory(row)))
    return sides.aligned(lines)


def main():
    args = parse_arguments()
    load = sides.warn_if_busy(args.device)
    server = sides.Server(args.python, "hf_step.py") if args.device == "cuda" else None
    report = {
        **sides.environment(args, server),
        "model": args.model.resolve().name,
        "batch_size": args.batch_size,
        "max_target_length": args.max_target_length,
        "precision": args.precision,
        "compiled": args.compile,
        "load_average": load,
        "rows": [],
    }
    for length in args.lengths:
        for mode in args.modes:
            report["rows"].append(compare_or_say_why(args, length, mode, server))
            sides.write(args, report)
    where = f"{args.threads} threads, {report['processor']}"
    if server:
        server.close()
        where = f"{args.precision}, {report['device']}"
    print(f"{report['model']}, batch {args.batch_size}, {where}")
    print(table(report["rows"], memory_key(args)))
    if all("failed" in row for row in report["rows"]):
        sys.exit("no row could be measured")


if __name__ == "__main__":
    main()
