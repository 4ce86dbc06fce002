"""Speed of generation, wattention against transformers, interleaved in one run.

    cargo build --release
    python3 benches/baselines/compare_generate.py --python PYTHON_WITH_TORCH --output result.json

Each row is a number of beams. Each round of a row runs `wattention bench generate` in every precision asked for,
hf_generate.py in float32 and, where bf16 is asked for, in bfloat16 too, one right after the other and in turn first.
Times are of a step after the first one, and of the whole of generate(); ratios are transformers over wattention, the
median of the rounds' own ratios with the least and the greatest: against float32, and for bf16 against bfloat16 too. The load of the machine stands beside each round.
"""

import argparse
import statistics

import sides
from sides import HERE, as_typed, measure, shown, spread

# transformers in float32, and in bfloat16.
PEER, PEER_BF16 = "transformers", "transformers-bf16"


def parse_arguments():
    parser = argparse.ArgumentParser(description="wattention against transformers, generation on the CPU.")
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 4], help="beams (1 4)")
    parser.add_argument("--precisions", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"])
    parser.add_argument("--max-source-length", type=int, default=1024)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    sides.add_arguments(parser)
    sides.add_model_arguments(parser, batch_size=2)
    args = parser.parse_args()
    sides.check(parser, args)
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
    compiled = ["--compile"] if args.compile else []
    script = str(HERE / "hf_generate.py")
    theirs = [args.python, script, "--model", str(args.model), *work, *compiled]
    peers = {PEER: theirs}
    if "bf16" in args.precisions:
        peers[PEER_BF16] = [*theirs, "--precision", "bf16"]
    return {**asked, **peers}


def ratio(rounds, key, side, peer):
    """How many times as long the peer takes, by round."""
    medians = [[statistics.median(one[s][key]) for one in rounds] for s in (side, peer)]
    return spread([theirs / ours for ours, theirs in zip(*medians)])


def row(args, beams):
    asked = commands(args, beams)
    rounds = sides.in_turn(f"{beams} beams", args.rounds, list(asked), lambda side: measure(asked[side]))
    result = {"num_beams": beams, "commands": {side: as_typed(command) for side, command in asked.items()}}
    for side in asked:
        ms = [1e3 * statistics.median(one[side]["step_seconds"]) for one in rounds]
        whole = [statistics.median(one[side]["seconds"]) for one in rounds]
        result[side] = {"step_ms": spread(ms), "whole_s": spread(whole)}
        if side in (PEER, PEER_BF16):
            continue
        for key, name in (("step_seconds", "step_ratio"), ("seconds", "whole_ratio")):
            result[side][name] = ratio(rounds, key, side, PEER)
            if side == "bf16":
                result[side][f"{name}_bf16"] = ratio(rounds, key, side, PEER_BF16)
        result[side]["share_of_limit"] = spread([one[side]["share_of_limit"] for one in rounds])
    return {**result, "rounds": rounds}


def table(rows):
    lines = [("beams", "side", "step ms", "faster", "than bf16", "of the limit", "whole s", "faster", "than bf16")]
    for one in rows:
        for side in [key for key in one if key in ("fp32", "bf16", PEER, PEER_BF16)]:
            r = one[side]

            def faster(name):
                return shown(r[name], ".1f") if name in r else ""

            limit = f"{100 * r['share_of_limit']['median']:.0f} %" if "share_of_limit" in r else ""
            lines.append((
                str(one["num_beams"]), side, shown(r["step_ms"], ".2f"), faster("step_ratio"), faster("step_ratio_bf16"),
                limit, shown(r["whole_s"], ".2f"), faster("whole_ratio"), faster("whole_ratio_bf16"),
            ))
    return sides.aligned(lines)


def main():
    args = parse_arguments()
    load = sides.warn_if_busy("cpu")
    report = {
        **sides.environment(args),
        "model": args.model.resolve().name,
        "batch_size": args.batch_size,
        "max_source_length": args.max_source_length,
        "max_new_tokens": args.max_new_tokens,
        "precision": "+".join(args.precisions),
        "load_average": load,
        "rows": [],
    }
    for beams in args.beams:
        report["rows"].append(row(args, beams))
        sides.write(args, report)
    print(f"{report['model']}, batch {args.batch_size}, {args.threads} threads, {report['processor']}")
    print(table(report["rows"]))


if __name__ == "__main__":
    main()
