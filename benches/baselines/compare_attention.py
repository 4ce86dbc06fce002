"""Attention alone, wattention against what there is for PyTorch, interleaved in one run.

    cargo build --release
    python3 benches/baselines/compare_attention.py --python PYTHON_WITH_TORCH --output result.json
    python3 benches/baselines/compare_attention.py --kinds window --lengths 16384 --device cuda --precision bf16

Each row is a pattern, a length and a pass, with LED-base's heads. Each round of a row asks `wattention bench attention`
and every peer of attention_peers.py once, one right after the other and in turn first, for the same shapes and for as
many seconds; both write a buffer larger than the caches between runs. The ratio is the peer's time over wattention's,
above 1 where wattention is faster: the median of the rounds' own ratios, with the least and the greatest. A peer that
cannot do a row says why, also where its process fell. The peers are a process that stays, idle while wattention runs;
FlexAttention has its own, for on the CPU it writes outside of its buffers (pytorch/pytorch#153145).

With --engines hopper mma the rows of wattention are of its kernels for Hopper, and those by mma.sync stand beside them
as one more peer, wattention-mma.

The standard library is enough for this script itself; --python must have torch and transformers.
"""

import argparse
import json
import statistics
import sys

import sides
from sides import HERE, as_typed

KINDS = ["window", "block-sparse", "dense"]
PASSES = ["forward", "backward"]


def parse_arguments():
    parser = argparse.ArgumentParser(description="wattention against PyTorch, attention alone.")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 2048, 4096, 8192])
    parser.add_argument("--passes", nargs="+", choices=PASSES, default=PASSES)
    parser.add_argument("--peers", nargs="+", help="only these")
    engines = {"nargs": "+", "choices": ["mma", "hopper"], "default": []}
    parser.add_argument("--engines", **engines, help="kernels on a GPU: wattention's, then those beside it")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--head-size", type=int, default=64)
    parser.add_argument("--window", type=int, default=512, help="keys to each side (512)")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each side and turn; three runs at least (0.5)")
    sides.add_arguments(parser, rounds=3)
    sides.add_device_arguments(parser)
    args = parser.parse_args()
    if min(args.lengths) < 1:
        parser.error("lengths must be at least 1")
    sides.check(parser, args)
    return args


def sizes(args):
    return [
        *["--batch-size", str(args.batch_size), "--heads", str(args.heads), "--head-size", str(args.head_size)],
        *["--window", str(args.window), "--seconds", str(args.seconds), "--warmup-seconds", str(args.seconds / 4)],
        *["--device", args.device, "--precision", args.precision, "--threads", str(args.threads), "--json"],
    ]


def commands(args, kind, length, direction, peers):
    """How each side is asked for the same row."""
    script = [args.python, str(HERE / "attention_peers.py")]
    ours = [str(args.wattention), "bench", "attention", "--kind", kind, "--lengths", str(length), "--pass", direction]
    theirs = [*script, "--kind", kind, "--length", str(length), "--pass", direction]
    engines = [["--engine", engine] for engine in args.engines] or [[]]
    names = ["wattention", *(f"wattention-{engine}" for engine in args.engines[1:])]
    asked = {name: [*ours, *sizes(args), *engine] for name, engine in zip(names, engines)}
    return asked | {peer: [*theirs, "--peer", peer, *sizes(args)] for peer in peers}


def measure(command, server):
    """The row of a side with its median, or why there is none."""
    if server.command[:2] == command[:2]:
        answer = server.ask(command)
        if "ended" in answer:
            return {"absent": f"its process ended with exit code {answer['ended']}"}
        if not answer.get("finite", True):
            return {"absent": "what it computed is not finite"}
        return answer
    printed, _ = sides.run(command)
    [row] = json.loads(printed)["rows"]
    return row


def compare(args, kind, length, direction, servers):
    peers = [p for p in servers["other"].versions["peers"][args.device][kind] if not args.peers or p in args.peers]
    asked = commands(args, kind, length, direction, peers)
    absent = {}

    def ask(side):
        # What a peer could not do once it cannot do in the next round.
        if side in absent:
            return {"absent": absent[side]}
        answer = measure(asked[side], servers.get(side, servers["other"]))
        if "absent" in answer:
            absent[side] = answer["absent"]
        return answer

    rounds = sides.in_turn(f"{kind} {length} {direction}", args.rounds, list(asked), ask)
    row = {"kind": kind, "length": length, "pass": direction}
    ours = [one["wattention"]["median_s"] for one in rounds]
    row["wattention"] = {"median_s": statistics.median(ours), "flops": rounds[0]["wattention"]["flops"]}
    for peer in list(asked)[1:]:
        if peer in absent:
            row[peer] = {"absent": absent[peer]}
            continue
        theirs = [one[peer]["median_s"] for one in rounds]
        ratios = [b / a for a, b in zip(ours, theirs)]
        row[peer] = {"median_s": statistics.median(theirs), "speed_ratio": sides.spread(ratios)}
    return {**row, "commands": {side: as_typed(command) for side, command in asked.items()}, "rounds": rounds}


def table(rows):
    lines = [("pattern", "pass", "tokens", "wattention", "GFLOP/s", "peer", "its time", "wattention is faster")]
    for row in rows:
        ours = row["wattention"]
        mine = (f"{1e3 * ours['median_s']:.2f} ms", f"{ours['flops'] / ours['median_s'] / 1e9:.0f}")
        for peer in [key for key in row if isinstance(row[key], dict) and key not in ("wattention", "commands")]:
            theirs = row[peer]
            what = (row["kind"], row["pass"], str(row["length"]), *mine, peer)
            if "absent" in theirs:
                lines.append((*what, "n/a: " + theirs["absent"][:60], ""))
                continue
            ratio = theirs["speed_ratio"]
            faster = f"{ratio['median']:.2f}x ({ratio['min']:.2f} to {ratio['max']:.2f})"
            lines.append((*what, f"{1e3 * theirs['median_s']:.2f} ms", faster))
    return sides.aligned(lines)


def main():
    args = parse_arguments()
    load = sides.warn_if_busy(args.device)
    servers = {name: sides.Server(args.python, "attention_peers.py") for name in ("other", "flex")}
    report = {
        **sides.environment(args, servers["other"]),
        "batch_size": args.batch_size,
        "heads": args.heads,
        "head_size": args.head_size,
        "window": args.window,
        "precision": args.precision,
        **({"engine": args.engines[0]} if args.engines else {}),
        "load_average": load,
        "rows": [],
    }
    for kind in args.kinds:
        for length in args.lengths:
            for direction in args.passes:
                report["rows"].append(compare(args, kind, length, direction, servers))
                sides.write(args, report)
    for server in servers.values():
        server.close()
    where = f"{args.precision}, {report['device']}" if args.device == "cuda" else f"{args.threads} threads"
    print(f"{args.heads} heads of {args.head_size}, batch {args.batch_size}, {where}, {report['processor']}")
    print(table(report["rows"]))
    behind = [row for row in report["rows"] if any(slower(row[peer]) for peer in row if isinstance(row[peer], dict))]
    if behind:
        names = ", ".join(f"{row['kind']} {row['pass']} at {row['length']}" for row in behind)
        print(f"wattention is behind a peer in: {names}", file=sys.stderr)


def slower(peer):
    return peer.get("speed_ratio", {}).get("median", 1.0) < 1.0


if __name__ == "__main__":
    main()
