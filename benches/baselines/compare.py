"""Speed and memory of one model step, wattention against transformers, interleaved in one run.

    cargo build --release
    python3 benches/baselines/compare.py --python PYTHON_WITH_TORCH --output result.json

Each row is a length and a mode. Each round of a row runs `wattention bench step` and led_step.py once, one right
after the other and in turn first, so that other work on the machine meets both. The table has medians over all
samples with their 20th and 80th percentiles; the ratio is transformers over wattention, above 1 where wattention is
faster or smaller: the median of the rounds' own ratios, with the least and the greatest. Memory is the largest
resident set of the process as the kernel counted it, everything included: weights, libraries and, on the Python side,
the interpreter.

The standard library is enough for this script itself; --python must have torch and transformers.
"""

import argparse
import datetime
import json
import math
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# PyTorch's threads wait for each other by spinning, so that other work slows them down out of proportion.
BUSY = 0.5
MODES = ["encoder", "forward", "forward-backward", "train"]


def parse_arguments():
    parser = argparse.ArgumentParser(description="wattention against transformers, one model step on the CPU, fp32.")
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 4096], help="input tokens (1024 4096)")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES[:3], help="all but train")
    parser.add_argument("--model", type=Path, default=HERE / "led-base", help="folder with a config.json (LED-base)")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--max-target-length", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="processes per side and row (5)")
    parser.add_argument("--warmup", type=int, default=1, help="steps of a process before the timed ones (1)")
    parser.add_argument("--repeat", type=int, default=1, help="timed steps per process (1)")
    parser.add_argument("--wattention", type=Path, default=ROOT / "target" / "release" / "wattention", metavar="BINARY")
    parser.add_argument("--python", default=sys.executable, help="interpreter with torch and transformers")
    parser.add_argument("--output", type=Path, help="JSON file with everything, written after every row")
    args = parser.parse_args()
    if min(args.rounds, args.repeat, args.threads, args.batch_size, *args.lengths) < 1:
        parser.error("lengths, --rounds, --repeat, --threads and --batch-size must be at least 1")
    if not (args.model / "config.json").is_file():
        parser.error(f"there is no config.json in {args.model}")
    if not args.wattention.is_file():
        parser.error(f"{args.wattention} is not there; run `cargo build --release`, or give --wattention")
    return args


def run(command):
    """What a command prints, and the largest resident set of its process in bytes."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            err.seek(0)
            sys.exit(f"{shlex.join(command)}\nexited with {process.returncode}:\n{err.read().strip()}")
        out.seek(0)
        return out.read(), usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(command):
    """The JSON object that a benchmark prints, checked to hold times, with the process's memory."""
    printed, peak = run(command)
    try:
        result = json.loads(printed)
        timed = bool(result["seconds"]) and all(math.isfinite(s) and s > 0 for s in result["seconds"])
    except (ValueError, TypeError, KeyError):
        timed = False
    if not timed:
        sys.exit(f"{shlex.join(command)}\nprinted no JSON object with the times in `seconds`:\n{printed}")
    return {**result, "max_resident_bytes": peak}


def commands(args, length, mode):
    """How each side is asked for the same step."""
    step = [
        *["--mode", mode, "--batch-size", str(args.batch_size), "--max-source-length", str(length)],
        *["--max-target-length", str(args.max_target_length), "--threads", str(args.threads)],
        *["--warmup", str(args.warmup), "--repeat", str(args.repeat), "--json"],
    ]
    return {
        "wattention": [str(args.wattention), "bench", "step", "--config", str(args.model / "config.json"), *step],
        "transformers": [args.python, str(HERE / "led_step.py"), "--model", str(args.model), *step],
    }


def as_typed(command):
    """A command as somebody would type it in the repository: no path of this machine."""
    short = [word.removeprefix(f"{ROOT}/") for word in command]
    return shlex.join(Path(word).name if Path(word).name.startswith("python") else word for word in short)


def percentile(values, share):
    """Linear between the two nearest ranks, as numpy's default."""
    values = sorted(values)
    at = share * (len(values) - 1)
    low, high = values[math.floor(at)], values[math.ceil(at)]
    return low + (high - low) * (at - math.floor(at))


def summary(runs):
    seconds = [s for run in runs for s in run["seconds"]]
    return {
        "median_s": statistics.median(seconds),
        "p20_s": percentile(seconds, 0.2),
        "p80_s": percentile(seconds, 0.8),
        "max_resident_bytes": max(run["max_resident_bytes"] for run in runs),
    }


def compare(args, length, mode):
    asked = commands(args, length, mode)
    rounds = []
    for number in range(args.rounds):
        sides = list(asked) if number % 2 == 0 else list(reversed(asked))
        print(f"{length} {mode}: round {number + 1} of {args.rounds}", file=sys.stderr, flush=True)
        load = os.getloadavg()[0]
        rounds.append({"load_average": load, **{side: measure(asked[side]) for side in sides}})
    sides = {side: summary([one[side] for one in rounds]) for side in asked}
    ratios = [median_of(one, "transformers") / median_of(one, "wattention") for one in rounds]
    peaks = {side: result["max_resident_bytes"] for side, result in sides.items()}
    return {
        "max_source_length": length,
        "mode": mode,
        **sides,
        "speed_ratio": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
        "memory_ratio": peaks["transformers"] / peaks["wattention"],
        "commands": {side: as_typed(command) for side, command in asked.items()},
        "rounds": rounds,
    }


def median_of(one_round, side):
    return statistics.median(one_round[side]["seconds"])


def table(rows):
    def time(side):
        return f"{side['median_s']:.3f} ({side['p20_s']:.3f} to {side['p80_s']:.3f})"

    def memory(row):
        ours, theirs = (row[side]["max_resident_bytes"] / 2**30 for side in ("wattention", "transformers"))
        return f"{ours:.2f} / {theirs:.2f} ({row['memory_ratio']:.2f}x)"

    lines = [("tokens", "mode", "wattention s", "transformers s", "faster", "peak GiB, ours / theirs")]
    for row in rows:
        ratio = row["speed_ratio"]
        faster = f"{ratio['median']:.2f}x ({ratio['min']:.2f} to {ratio['max']:.2f})"
        times = (time(row["wattention"]), time(row["transformers"]))
        lines.append((str(row["max_source_length"]), row["mode"], *times, faster, memory(row)))
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def commit():
    try:
        git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def environment(args):
    versions = "import torch, transformers; print(torch.__version__, transformers.__version__)"
    torch, transformers = run([args.python, "-c", versions])[0].split()
    return {
        "command": as_typed([sys.executable, *sys.argv]),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "commit": commit(),
        "wattention": run([str(args.wattention), "--version"])[0].strip(),
        "torch": torch,
        "transformers": transformers,
        "python": run([args.python, "--version"])[0].strip(),
        "model": args.model.resolve().name,
        "batch_size": args.batch_size,
        "max_target_length": args.max_target_length,
        "threads": args.threads,
        "precision": "fp32",
    }


def main():
    args = parse_arguments()
    if args.output and not args.output.resolve().parent.is_dir():
        sys.exit(f"there is no folder {args.output.resolve().parent}; make it first")
    load = os.getloadavg()[0]
    if load > BUSY:
        print(
            f"warning: other work is running here (load average {load:.1f}), which slows the two sides unequally; "
            "wait until the machine is idle",
            file=sys.stderr,
        )
    report = {**environment(args), "load_average": load, "rows": []}
    for length in args.lengths:
        for mode in args.modes:
            report["rows"].append(compare(args, length, mode))
            if args.output:
                args.output.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    print(f"{report['model']}, batch {args.batch_size}, {args.threads} threads, {report['processor']}")
    print(table(report["rows"]))


if __name__ == "__main__":
    main()
