"""Speed of generation, wattention against transformers, interleaved in one run.

    cargo build --release
    python3 benches/baselines/compare_generate.py --python PYTHON_WITH_TORCH --output result.json

Each row is a number of beams. Each round of a row runs `wattention bench generate` in every precision asked for and
led_generate.py (float32) once, one right after the other and in turn first. Times are of a step after the first one,
and of the whole of generate(); ratios are transformers over wattention, the median of the rounds' own ratios with the
least and the greatest. The load of the machine stands beside each round.
"""

import argparse
import json
import os
import statistics
import sys
from pathlib import Path

import compare
from compare import ROOT, as_typed, environment, measure


def parse_arguments():
    parser = argparse.ArgumentParser(description="wattention against transformers, generation on the CPU.")
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 4], help="beams (1 4)")
    parser.add_argument("--precisions", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"])
    parser.add_argument("--model", type=Path, default=compare.HERE / "led-base", help="folder with a config.json")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--max-source-length", type=int, default=1024)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="processes per side and row (5)")
    parser.add_argument("--warmup", type=int, default=1, help="runs of a process before the timed ones (1)")
    parser.add_argument("--repeat", type=int, default=1, help="timed runs per process (1)")
    parser.add_argument("--wattention", type=Path, default=ROOT / "target" / "release" / "wattention", metavar="BINARY")
    parser.add_argument("--python", default=sys.executable, help="interpreter with torch and transformers")
    parser.add_argument("--output", type=Path, help="JSON file with everything, written after every row")
    args = parser.parse_args()
    if not args.wattention.is_file():
        parser.error(f"{args.wattention} is not there; run `cargo build --release`, or give --wattention")
    return args


def commands(args, beams):
    work = [
        *["--batch-size", str(args.batch_size), "--max-source-length", str(args.max_source_length)],
        *["--max-new-tokens", str(args.max_new_tokens), "--num-beams", str(beams)],
        *["--threads", str(args.threads), "--warmup", str(args.warmup), "--repeat", str(args.repeat), "--json"],
    ]
    config = ["--config", str(args.model / "config.json")]
    ours = [str(args.wattention), "bench", "generate", *config, "--device", "cpu", *work]
    asked = {precision: [*ours, "--precision", precision] for precision in args.precisions}
    script = str(compare.HERE / "led_generate.py")
    return {**asked, "transformers": [args.python, script, "--model", str(args.model), *work]}


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def row(args, beams):
    asked, rounds = commands(args, beams), []
    for number in range(args.rounds):
        sides = list(asked) if number % 2 == 0 else list(reversed(asked))
        print(f"{beams} beams: round {number + 1} of {args.rounds}", file=sys.stderr, flush=True)
        load = os.getloadavg()[0]
        rounds.append({"load_average": load, **{side: measure(asked[side], None) for side in sides}})
    result = {"num_beams": beams, "commands": {side: as_typed(command) for side, command in asked.items()}}
    for side in asked:
        ms = [1e3 * statistics.median(one[side]["step_seconds"]) for one in rounds]
        whole = [statistics.median(one[side]["seconds"]) for one in rounds]
        result[side] = {"step_ms": spread(ms), "whole_s": spread(whole)}
        if side == "transformers":
            continue
        for key, name in (("step_seconds", "step_ratio"), ("seconds", "whole_ratio")):
            median = {s: [statistics.median(one[s][key]) for one in rounds] for s in (side, "transformers")}
            ratios = [theirs / ours for ours, theirs in zip(median[side], median["transformers"])]
            result[side][name] = spread(ratios)
        result[side]["share_of_limit"] = spread([one[side]["share_of_limit"] for one in rounds])
    return {**result, "rounds": rounds}


def table(rows):
    lines = [("beams", "side", "step ms", "faster", "of the limit", "whole s", "faster")]
    show = lambda s, form: f"{s['median']:{form}} ({s['min']:{form}} to {s['max']:{form}})"
    for one in rows:
        for side in [key for key in one if key in ("fp32", "bf16", "transformers")]:
            r = one[side]
            ours = side != "transformers"
            lines.append((
                str(one["num_beams"]), side, show(r["step_ms"], ".2f"),
                show(r["step_ratio"], ".1f") if ours else "",
                f"{100 * r['share_of_limit']['median']:.0f} %" if ours else "",
                show(r["whole_s"], ".2f"), show(r["whole_ratio"], ".1f") if ours else "",
            ))
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def main():
    args = parse_arguments()
    # What environment() says about a step.
    args.max_target_length, args.precision, args.device = args.max_new_tokens, "+".join(args.precisions), "cpu"
    report = {**environment(args, None), "load_average": os.getloadavg()[0], "rows": []}
    for beams in args.beams:
        report["rows"].append(row(args, beams))
        if args.output:
            args.output.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    print(f"{report['model']}, batch {args.batch_size}, {args.threads} threads, {report['processor']}")
    print(table(report["rows"]))


if __name__ == "__main__":
    main()
