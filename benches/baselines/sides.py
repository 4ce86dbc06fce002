"""What the comparisons of wattention with its peers share: all sides run in turn, on the same words, and summed up.

The standard library is enough; --python names the interpreter that has torch and transformers.
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
# What torch.compile may take, with the first run of what it made.
COMPILE_SECONDS = 180


def add_program_arguments(parser, rounds=5):
    """What every comparison is asked."""
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of both sides (all cores)")
    parser.add_argument("--rounds", type=int, default=rounds, help=f"turns of each side and row ({rounds})")
    parser.add_argument("--wattention", type=Path, default=ROOT / "target" / "release" / "wattention", metavar="BINARY")
    parser.add_argument("--output", type=Path, help="JSON file with everything, written after every row")


def add_arguments(parser, rounds=5):
    """What a comparison with a peer is asked."""
    add_program_arguments(parser, rounds)
    parser.add_argument("--python", default=sys.executable, help="interpreter with torch and transformers")


def add_model_arguments(parser, batch_size):
    """What comparisons of a whole model are asked beside that."""
    # Results name the model as it is given; where the checkout lies is nobody's business.
    led_base = Path(os.path.relpath(HERE / "led-base"))
    parser.add_argument("--model", type=Path, default=led_base, help="folder with a config.json (LED-base)")
    several = {"nargs": "+"} if isinstance(batch_size, list) else {}
    parser.add_argument("--batch-size", type=int, default=batch_size, **several)
    parser.add_argument("--warmup", type=int, default=1, help="runs of a turn before the timed ones (1)")
    parser.add_argument("--repeat", type=int, default=1, help="timed runs of a turn (1)")
    help = f"transformers through torch.compile, too, where that takes no more than {COMPILE_SECONDS} s"
    parser.add_argument("--compile", action="store_true", help=help)


def add_device(parser):
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")


def add_device_arguments(parser):
    add_device(parser)
    parser.add_argument("--precision", choices=["fp32", "tf32", "bf16"], default="fp32", help="of both sides")


def check(parser, args):
    """Ends the program where something asked for is not there."""
    batches = getattr(args, "batch_size", 1)
    counts = [args.rounds, args.threads, getattr(args, "repeat", 1)]
    if min(counts + (batches if isinstance(batches, list) else [batches])) < 1:
        parser.error("--rounds, --repeat, --threads and --batch-size must be at least 1")
    if getattr(args, "device", "cpu") == "cpu" and getattr(args, "precision", "fp32") == "tf32":
        parser.error("on the CPU the precision is fp32 or bf16")
    if hasattr(args, "model") and not (args.model / "config.json").is_file():
        parser.error(f"there is no config.json in {args.model}")
    if not args.wattention.is_file():
        parser.error(f"{args.wattention} is not there; run `cargo build --release`, or give --wattention")
    if args.output and not args.output.resolve().parent.is_dir():
        parser.error(f"there is no folder {args.output.resolve().parent}; make it first")


def warn_if_busy(device):
    """The load of the machine; says so where it is not idle."""
    load = os.getloadavg()[0]
    if load > BUSY and device == "cpu":
        print(
            f"warning: other work is running here (load average {load:.1f}), which slows the two sides unequally; "
            "wait until the machine is idle",
            file=sys.stderr,
        )
    return load


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


def trial(command):
    """Runs a command whose compiling may fail or not end; why it did, or nothing."""
    print("compiling", file=sys.stderr, flush=True)
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMPILE_SECONDS)
    except subprocess.TimeoutExpired:
        return f"torch.compile took more than {COMPILE_SECONDS} s"
    if done.returncode == 0:
        return None
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    # What a compiler says ends with the line that it points at.
    errors = [line for line in said if "error:" in line.lower()]
    why = (errors or said or [f"exit {done.returncode}"])[-1]
    return why.replace(f"{ROOT}/", "")


class Server:
    """A script with --serve: one process for all rows of the PyTorch side, which starts again when it died."""

    def __init__(self, python, script):
        self.command, self.process = [python, str(HERE / script), "--serve"], None
        self.versions = self.start()

    def start(self):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(self.command, **pipes)
        versions = self.read()
        if "ended" in versions:
            sys.exit(f"{shlex.join(self.command)}\nexited with {versions['ended']}")
        return versions

    def read(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"ended": self.process.wait()}

    def ask(self, command):
        """What the script would print for this command line, or `ended` with the exit code of a process that fell."""
        if self.process.poll() is not None:
            self.start()
        self.process.stdin.write(json.dumps(command[2:]) + "\n")
        self.process.stdin.flush()
        answer = self.read()
        if "failed" in answer:
            sys.exit(f"{shlex.join(command)}\n{answer['failed']}")
        return answer

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def measure(command, server=None):
    """The JSON object that a benchmark prints, checked to hold times, with the process's memory."""
    if server and server.command[:2] == command[:2]:
        answer = server.ask(command)
        if "ended" in answer:
            sys.exit(f"{shlex.join(command)}\nexited with {answer['ended']}")
        return answer
    printed, peak = run(command)
    try:
        result = json.loads(printed)
        # The program's own benchmarks print rows, of which one was asked for.
        [row] = result.pop("rows", [result])
        result = {**result, **row}
        timed = bool(result["seconds"]) and all(math.isfinite(s) and s > 0 for s in result["seconds"])
    except (ValueError, TypeError, KeyError):
        timed = False
    if not timed:
        sys.exit(f"{shlex.join(command)}\nprinted no JSON object with the times in `seconds`:\n{printed}")
    return {**result, "max_resident_bytes": peak}


def in_turn(label, rounds, sides, ask):
    """What `ask` gives for every side in every round, each side first in turn, with the load of the machine."""
    done = []
    for number in range(rounds):
        order = sides if number % 2 == 0 else list(reversed(sides))
        print(f"{label}: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        load = os.getloadavg()[0]
        done.append({"load_average": load, **{side: ask(side) for side in order}})
    return done


def as_typed(command, names=()):
    """A command as somebody would type it in the repository: no path of this machine. `names` are pairs of a folder
    and what stands for it."""
    short = [word.removeprefix(f"{ROOT}/") for word in command]
    for folder, name in names:
        short = [word.replace(str(folder), name) for word in short]
    return shlex.join(Path(word).name if Path(word).name.startswith("python") else word for word in short)


def percentile(values, share):
    """Linear between the two nearest ranks, as numpy's default."""
    values = sorted(values)
    at = share * (len(values) - 1)
    low, high = values[math.floor(at)], values[math.ceil(at)]
    return low + (high - low) * (at - math.floor(at))


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def shown(spread, form):
    """A median with the least and the greatest."""
    return f"{spread['median']:{form}} ({spread['min']:{form}} to {spread['max']:{form}})"


def aligned(lines):
    """A table of texts, the first line its header."""
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


def environment(args, server=None):
    """Where and with what a comparison was made."""
    if server:
        versions = server.versions
    elif not hasattr(args, "python"):
        versions = {}
    else:
        ask = "import torch, transformers; print(torch.__version__, transformers.__version__)"
        torch, transformers = run([args.python, "-c", ask])[0].split()
        versions = {"torch": torch, "transformers": transformers}
    return {
        "command": as_typed([sys.executable, *sys.argv]),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "commit": commit(),
        "wattention": run([str(args.wattention), "--version"])[0].strip(),
        **{name: versions[name] for name in ("torch", "transformers") if name in versions},
        **({"python": run([args.python, "--version"])[0].strip()} if versions else {}),
        "threads": args.threads,
        **({"device": versions["gpu"]} if "gpu" in versions else {}),
    }


def write(args, report):
    if args.output:
        args.output.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
