"""Weak scaling: a training step by several ranks of this machine beside that of one, interleaved in one run.

    cargo build --release
    python3 benches/baselines/compare_ranks.py --ranks 1 2 --output result.json

Each rank has --batch-size examples and --threads threads of its own. Each round of a row runs `wattention bench step` by
every number of ranks, and by as many processes that train apart, one right after the other and in turn first. The
efficiency is the samples a second of N ranks over N times those of the first number's; that of processes apart is what the
machine has for any N, whose memory and clocks they share. The standard library is enough.
"""

import argparse
import os
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sides
from sides import HERE, as_typed, measure, shown, spread


def parse_arguments():
    parser = argparse.ArgumentParser(description="wattention by several ranks against one.")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, os.cpu_count()], help="processes (1, all cores)")
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024], help="input tokens (1024)")
    parser.add_argument("--mode", choices=["forward-backward", "train"], default="train")
    parser.add_argument("--max-target-length", type=int, default=128)
    sides.add_program_arguments(parser, rounds=3)
    parser.set_defaults(threads=1)
    parser.add_argument("--model", type=Path, default=Path(os.path.relpath(HERE / "led-base")), help="(LED-base)")
    parser.add_argument("--batch-size", type=int, default=1, help="of each rank (1)")
    parser.add_argument("--warmup", type=int, default=1, help="steps of a turn before the timed ones (1)")
    parser.add_argument("--repeat", type=int, default=2, help="timed steps of a turn (2)")
    sides.add_device_arguments(parser)
    args = parser.parse_args()
    sides.check(parser, args)
    if min(args.ranks) < 1 or len(set(args.ranks)) < 2:
        parser.error("--ranks takes several different numbers, of at least 1")
    return args


def command(args, length, ranks):
    return [
        *[str(args.wattention), "bench", "step", "--config", str(args.model / "config.json"), "--mode", args.mode],
        *["--device", args.device, "--precision", args.precision, "--threads", str(args.threads)],
        *["--batch-size", str(args.batch_size), "--max-source-length", str(length)],
        *["--max-target-length", str(args.max_target_length)],
        *["--warmup", str(args.warmup), "--repeat", str(args.repeat), "--devices", str(ranks), "--json"],
    ]


def ask(args, length, ranks, apart):
    """What every process that was started says: all ranks together, or each that trains apart."""
    if not apart:
        return [measure(command(args, length, ranks))]
    with ThreadPoolExecutor(ranks) as pool:
        return list(pool.map(measure, [command(args, length, 1)] * ranks))


def compare(args, length):
    several = [ranks for ranks in args.ranks if ranks > 1]
    asked = {str(ranks): (ranks, False) for ranks in args.ranks} | {f"{ranks} apart": (ranks, True) for ranks in several}
    rounds = sides.in_turn(f"{length} tokens", args.rounds, list(asked), lambda side: ask(args, length, *asked[side]))
    row = {"max_source_length": length, "mode": args.mode}

    def rate(one, side):
        ranks, apart = asked[side]
        samples = args.batch_size * (1 if apart else ranks)
        return sum(samples / statistics.median(process["seconds"]) for process in one[side])

    first = str(args.ranks[0])
    for side, (ranks, _) in asked.items():
        row[side] = {"samples_per_second": spread([rate(one, side) for one in rounds])}
        if side != first:
            times = ranks / args.ranks[0]
            row[side]["efficiency"] = spread([rate(one, side) / rate(one, first) / times for one in rounds])
    commands = {str(ranks): as_typed(command(args, length, ranks)) for ranks in args.ranks}
    return {**row, "commands": commands, "rounds": rounds}


def table(args, rows):
    lines = [("tokens", "ranks", "samples/s", "efficiency")]
    for row in rows:
        for side, of in ((side, of) for side, of in row.items() if side[0].isdigit()):
            efficiency = shown(of["efficiency"], ".3f") if "efficiency" in of else ""
            lines.append((str(row["max_source_length"]), side, shown(of["samples_per_second"], ".4f"), efficiency))
    return sides.aligned(lines)


def main():
    args = parse_arguments()
    load = sides.warn_if_busy(args.device)
    report = {
        **sides.environment(args),
        "model": args.model.resolve().name,
        "batch_size": args.batch_size,
        "max_target_length": args.max_target_length,
        "precision": args.precision,
        "load_average": load,
        "rows": [],
    }
    for length in args.lengths:
        report["rows"].append(compare(args, length))
        sides.write(args, report)
    print(f"{report['model']}, batch {args.batch_size} and {args.threads} threads a rank, {report['processor']}")
    print(table(args, report["rows"]))


if __name__ == "__main__":
    main()
