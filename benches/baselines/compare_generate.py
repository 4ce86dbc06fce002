"""Speed of generation, wattention against transformers and CTranslate2, interleaved in one run.

    cargo build --release
    python3 benches/baselines/compare_generate.py --python PYTHON_WITH_TORCH --output result.json
    python3 benches/baselines/compare_generate.py --model benches/baselines/bart-base --batch-size 1 2

Each row is a size of the batch and a number of beams. Each round of a row runs `wattention bench generate` in every
precision asked for, hf_generate.py in float32 and, where bf16 is asked for, in bfloat16, and ct2_generate.py in every
precision that CTranslate2 has on this processor, one right after the other and in turn first. int8 are weights in 8
bits, with activations in float32. All sides have the same random weights and as many random tokens; every answer has
all of its tokens. CTranslate2 takes BART and Pegasus, not LED; `left_out` of the result says what is not there, and why.

--device cuda compares with transformers alone, in fp32 and bf16, for there are no weights in 8 bits on a GPU.

Times are of a step after the first one, and of the whole of generating, encoder included; loading is no part of either.
Ratios are the other side over wattention, the median of the rounds' own ratios with the least and the greatest; the
result has those against every other side. `same_tokens` is how many tokens of CTranslate2's answers in float32 are
those of wattention's, of the same inputs. The load of the machine stands beside each round.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import sides
from sides import HERE, as_typed, measure, shown, spread

OURS = {
    "fp32": ["--precision", "fp32"],
    "bf16": ["--precision", "bf16"],
    "int8": ["--precision", "fp32", "--weights", "int8"],
    "int8-bf16": ["--precision", "bf16", "--weights", "int8"],
}
# What CTranslate2 calls them.
COMPUTE_TYPES = {"fp32": "float32", "bf16": "bfloat16", "int8": "int8_float32", "int8-bf16": "int8_bfloat16"}
PEER, PEER_BF16, COMPILED = "transformers", "transformers-bf16", "transformers-compiled"


def ct2(precision):
    return "ctranslate2" if precision == "fp32" else f"ctranslate2-{precision}"


def parse_arguments():
    parser = argparse.ArgumentParser(description="wattention against its peers, generation.")
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 4], help="beams (1 4)")
    parser.add_argument("--precisions", nargs="+", choices=list(OURS), help="fp32 bf16, and int8 on the CPU")
    sides.add_device(parser)
    parser.add_argument("--max-source-length", type=int, default=1024)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    sides.add_arguments(parser)
    sides.add_model_arguments(parser, batch_size=[2])
    args = parser.parse_args()
    on_gpu = args.device == "cuda"
    args.precisions = args.precisions or ["fp32", "bf16", *([] if on_gpu else ["int8"])]
    sides.check(parser, args)
    if on_gpu and any(precision.startswith("int8") for precision in args.precisions):
        parser.error("weights in 8 bits are for the CPU: --precisions fp32 bf16 on a GPU")
    if args.max_new_tokens < 2:
        parser.error("--max-new-tokens must be at least 2: a step is what one more token takes")
    return args


def make_model(args, folder):
    """Writes the model that all sides have into `folder`; what CTranslate2 says of itself."""
    size = ["--batch-size", *map(str, args.batch_size), "--max-source-length", str(args.max_source_length)]
    command = [args.python, str(HERE / "ct2_model.py"), "--model", str(args.model), "--output-dir", str(folder), *size]
    return json.loads(sides.run(command)[0])


def commands(args, folder, batch_size, beams):
    """How every side is asked for the same."""
    work = [
        *["--batch-size", str(batch_size), "--max-source-length", str(args.max_source_length)],
        *["--max-new-tokens", str(args.max_new_tokens), "--num-beams", str(beams)],
        *["--threads", str(args.threads), "--warmup", str(args.warmup), "--repeat", str(args.repeat), "--json"],
    ]
    both = ["--model", str(folder / "hf"), "--device", args.device, *work]
    ours = [str(args.wattention), "bench", "generate", *both]
    hf = [args.python, str(HERE / "hf_generate.py"), *both]
    theirs = [args.python, str(HERE / "ct2_generate.py"), "--model", str(folder), *work]
    asked = {precision: [*ours, *OURS[precision]] for precision in args.precisions}
    asked[PEER] = hf
    if "bf16" in args.precisions:
        asked[PEER_BF16] = [*hf, "--precision", "bf16"]
    if args.compile:
        asked[COMPILED] = [*hf, "--compile"]
    return asked | {ct2(precision): [*theirs, "--precision", precision] for precision in args.precisions}


def left_out(args, found):
    """Which of CTranslate2's precisions are not measured, and why."""
    if args.device == "cuda":
        return {"ctranslate2": "it is asked on the CPU only"}, {ct2(precision) for precision in args.precisions}
    if "left_out" in found:
        return {"ctranslate2": found["left_out"]}, {ct2(precision) for precision in args.precisions}
    missing = [one for one in args.precisions if COMPUTE_TYPES[one] not in found["compute_types"]]
    why = {ct2(one): f"CTranslate2 does not compute in {COMPUTE_TYPES[one]} on this processor" for one in missing}
    return why, set(why)


def same_tokens(args, folder, command):
    """The share of tokens that CTranslate2 generates as wattention does, in float32."""
    tokens = folder / "tokens.safetensors"
    size, beams = (command[command.index(flag) + 1] for flag in ("--batch-size", "--num-beams"))
    inputs = folder / f"inputs-{size}.safetensors"
    ours = [str(args.wattention), "generate", "--model", str(folder / "hf"), "--inputs", str(inputs), "--output"]
    lengths = [f"--{end}-new-tokens={args.max_new_tokens}" for end in ("min", "max")]
    sides.run([*ours, str(tokens), *lengths, "--num-beams", beams, "--device", "cpu", "--threads", str(args.threads)])
    return measure([*command, "--expect", str(tokens), "--warmup", "0", "--repeat", "1"])["same_tokens"]


def row(args, folder, batch_size, beams, absent):
    asked = commands(args, folder, batch_size, beams)
    why = {}
    if args.compile and (reason := sides.trial(asked[COMPILED])):
        why = {COMPILED: reason}
    asked = {side: command for side, command in asked.items() if side not in absent | set(why)}
    label = f"batch {batch_size}, {beams} beams"
    result = {"batch_size": batch_size, "num_beams": beams, **({"left_out": why} if why else {})}
    if ct2("fp32") in asked:
        result["same_tokens"] = same_tokens(args, folder, asked[ct2("fp32")])
    rounds = sides.in_turn(label, args.rounds, list(asked), lambda side: measure(asked[side]))
    # The folder is gone when somebody reads its name.
    rounds = json.loads(json.dumps(rounds).replace(str(folder), "MODEL"))
    result["commands"] = {side: as_typed(command, [(folder, "MODEL")]) for side, command in asked.items()}
    for side in asked:
        result[side] = {
            "step_ms": spread([1e3 * median(one, side, "step_seconds") for one in rounds]),
            "whole_s": spread([median(one, side, "seconds") for one in rounds]),
        }
        if side not in OURS:
            continue
        others = [other for other in asked if other != side]
        for key, name in (("step_seconds", "step_ratio"), ("seconds", "whole_ratio")):
            ratios = {other: [median(one, other, key) / median(one, side, key) for one in rounds] for other in others}
            result[side][name] = {other: spread(values) for other, values in ratios.items()}
        # A GPU whose bandwidth nobody knows has no limit.
        shares = [one[side].get("share_of_limit") for one in rounds]
        if all(isinstance(share, float) for share in shares):
            result[side]["share_of_limit"] = spread(shares)
    return {**result, "rounds": rounds}


def median(one, side, key):
    return statistics.median(one[side][key])


def table(rows):
    """A line per side; wattention's say how many times as fast they are as the same precision elsewhere."""
    against = [
        ("than transformers", lambda side: PEER),
        ("than its bf16", lambda side: PEER_BF16 if side != "fp32" else None),
        ("than CTranslate2", ct2),
    ]
    titles = [title for title, _ in against]
    lines = [("batch", "beams", "side", "step ms", *titles, "of the limit", "whole s", *titles)]
    for one in rows:
        for side in one["commands"]:
            of = one[side]

            def faster(name):
                found = [of.get(name, {}).get(other(side)) for _, other in against]
                return [shown(ratio, ".2f") if ratio else "" for ratio in found]

            limit = f"{100 * of['share_of_limit']['median']:.0f} %" if "share_of_limit" in of else ""
            times = shown(of["step_ms"], ".2f"), shown(of["whole_s"], ".2f")
            cells = [side, times[0], *faster("step_ratio"), limit, times[1], *faster("whole_ratio")]
            lines.append((str(one["batch_size"]), str(one["num_beams"]), *cells))
    return sides.aligned(lines)


def main():
    args = parse_arguments()
    load = sides.warn_if_busy(args.device)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        found = make_model(args, folder)
        why, absent = left_out(args, found)
        for side, reason in why.items():
            print(f"without {side}: {reason}", file=sys.stderr)
        report = {
            **sides.environment(args),
            **{key: found[key] for key in ("ctranslate2",) if key in found},
            "model": args.model.resolve().name,
            "max_source_length": args.max_source_length,
            "max_new_tokens": args.max_new_tokens,
            "precision": "+".join(args.precisions),
            "device": args.device,
            "load_average": load,
            "left_out": why,
            "rows": [],
        }
        for batch_size in args.batch_size:
            for beams in args.beams:
                report["rows"].append(row(args, folder, batch_size, beams, absent))
                sides.write(args, report)
    where = "the GPU" if args.device == "cuda" else f"{args.threads} threads, {report['processor']}"
    print(f"{report['model']}, {args.max_source_length} tokens in, {where}")
    print(table(report["rows"]))
    for one in report["rows"]:
        if "same_tokens" in one:
            what = f"batch {one['batch_size']}, {one['num_beams']} beams"
            print(f"{what}: {100 * one['same_tokens']:.0f} % of CTranslate2's tokens are wattention's, in fp32")


if __name__ == "__main__":
    main()
