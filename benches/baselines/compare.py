"""Speed and memory of one model step, wattention against transformers, interleaved in one run.

    cargo build --release
    python3 benches/baselines/compare.py --python PYTHON_WITH_TORCH --output result.json
    python3 benches/baselines/compare.py --device cuda --precision bf16 --modes forward train --output result.json

Each row is a length and a mode. Each round of a row runs `wattention bench step` and led_step.py once, one right
after the other and in turn first, so that other work on the machine meets both. The table has medians over all
samples with their 20th and 80th percentiles; the ratio is transformers over wattention, above 1 where wattention is
faster or smaller: the median of the rounds' own ratios, with the least and the greatest. Memory is the largest
resident set of the process as the kernel counted it, everything included: weights, libraries and, on the Python side,
the interpreter.

With --device cuda the transformers side is one process that stays (led_step.py --serve), idle while wattention runs.
Memory is what the GPU held for tensors at most, as each side counts it: weights, gradients, optimizer state and
activations, without the context of the driver. A step that fails, out of memory for one, is a row that says why.

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
    parser = argparse.ArgumentParser(description="wattention against transformers, one model step.")
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 4096], help="input tokens (1024 4096)")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES[:3], help="all but train")
    parser.add_argument("--model", type=Path, default=HERE / "led-base", help="folder with a config.json (LED-base)")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--max-target-length", type=int, default=128)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["fp32", "tf32", "bf16"], default="fp32", help="on a GPU")
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
    if args.device == "cpu" and args.precision != "fp32":
        parser.error("on the CPU the precision is fp32")
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


class Server:
    """led_step.py --serve: the transformers side of all rows in one process, which starts again when it died."""

    def __init__(self, python):
        self.command, self.process = [python, str(HERE / "led_step.py"), "--serve"], None
        self.versions = self.start()

    def start(self):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(self.command, **pipes)
        return self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{shlex.join(self.command)}\nexited with {self.process.wait()}")
        return json.loads(line)

    def ask(self, command):
        """What led_step.py would print for this command line."""
        if self.process.poll() is not None:
            self.start()
        self.process.stdin.write(json.dumps(command[2:]) + "\n")
        self.process.stdin.flush()
        answer = self.read()
        if "failed" in answer:
            sys.exit(f"{shlex.join(command)}\n{answer['failed']}")
        return answer


def measure(command, server):
    """The JSON object that a benchmark prints, checked to hold times, with the process's memory."""
    if server and server.command[:2] == command[:2]:
        return server.ask(command)
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
        *["--device", args.device, "--precision", args.precision],
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
    rounds = []
    for number in range(args.rounds):
        sides = list(asked) if number % 2 == 0 else list(reversed(asked))
        print(f"{length} {mode}: round {number + 1} of {args.rounds}", file=sys.stderr, flush=True)
        load = os.getloadavg()[0]
        rounds.append({"load_average": load, **{side: measure(asked[side], server) for side in sides}})
    sides = {side: summary([one[side] for one in rounds], memory) for side in asked}
    ratios = [median_of(one, "transformers") / median_of(one, "wattention") for one in rounds]
    peaks = {side: result[memory] for side, result in sides.items()}
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

    lines = [("tokens", "mode", "wattention s", "transformers s", "faster", "peak GiB, ours / theirs")]
    for row in rows:
        if "failed" in row:
            lines.append((str(row["max_source_length"]), row["mode"], "failed: " + row["failed"], "", "", ""))
            continue
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


def environment(args, server):
    if server:
        torch, transformers = server.versions["torch"], server.versions["transformers"]
    else:
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
        "precision": args.precision,
        **({"device": server.versions.get("gpu")} if server else {}),
    }


def main():
    args = parse_arguments()
    if args.output and not args.output.resolve().parent.is_dir():
        sys.exit(f"there is no folder {args.output.resolve().parent}; make it first")
    load = os.getloadavg()[0]
    if load > BUSY and args.device == "cpu":
        print(
            f"warning: other work is running here (load average {load:.1f}), which slows the two sides unequally; "
            "wait until the machine is idle",
            file=sys.stderr,
        )
    server = Server(args.python) if args.device == "cuda" else None
    report = {**environment(args, server), "load_average": load, "rows": []}
    for length in args.lengths:
        for mode in args.modes:
            report["rows"].append(compare_or_say_why(args, length, mode, server))
            if args.output:
                args.output.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    where = f"{args.threads} threads, {report['processor']}"
    if server:
        server.process.stdin.close()
        where = f"{args.precision}, {report['device']}"
    print(f"{report['model']}, batch {args.batch_size}, {where}")
    print(table(report["rows"], memory_key(args)))
    if all("failed" in row for row in report["rows"]):
        sys.exit("no row could be measured")


if __name__ == "__main__":
    main()
