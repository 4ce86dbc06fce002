"""Writes what scripts/gpu.sh found so far: summary.json and the results of its parts, without this machine's paths.

    python3 scripts/gpu_report.py WORK OUT

WORK/parts has a line per part: name, outcome, seconds and, unless all went well, why, between tabs. WORK/NAME.out is
what the part printed, one JSON object or nothing; WORK/led-base-*.json are comparisons. In OUT stand few files:

doctor.json             the machine
checks.jsonl            a line per check that computes: {"part", "result"}
kernels.jsonl           a line per step, and per precision of the cases, that was timed kernel by kernel
limits.json             what the device reached: copies, products, exponentials
attention.json          attention by kind, pass, length and precision
profile.json            a training step by phase and kernel, with joules
led-base-*.json         steps beside PyTorch's, one file a precision, in the form of benches/baselines/compare.py
summary.json            outcome and seconds of every part

The standard library is enough.
"""

import datetime
import json
import re
import sys
from pathlib import Path

# An absolute path keeps its last name; https://x/y is none.
FOLDERS = re.compile(r"(?<![\w.:/])/(?:[^\s/\"'\\:,;()]+/)+")
ROOT = str(Path(__file__).resolve().parent.parent) + "/"


# Parts with a file of their own.
ALONE = ("limits", "attention", "profile")


def without_paths(text):
    return FOLDERS.sub("", text.replace(ROOT, ""))


def printed(path):
    """The JSON objects of a part, one a line; what is no JSON is left out."""
    objects = []
    for line in path.read_text("utf-8", "replace").splitlines() if path.is_file() else []:
        try:
            objects.append(json.loads(line))
        except ValueError:
            continue
    return objects


def parts(work):
    found = []
    for line in (work / "parts").read_text("utf-8", "replace").splitlines():
        name, outcome, seconds, why = line.split("\t", 3)
        found.append({"part": name, "outcome": outcome, "seconds": float(seconds), **({"why": why} if why else {})})
    return found


def main():
    work, out = map(Path, sys.argv[1:3])
    out.mkdir(parents=True, exist_ok=True)
    found = parts(work)
    doctor, checks, kernels, alone = [], [], [], {}
    for name in (part["part"] for part in found):
        objects = printed(work / f"{name}.out")
        if name == "doctor":
            doctor += objects
        elif name in ALONE:
            alone[name] = objects
        elif name.startswith("kernels"):
            kernels += objects
        elif name.startswith(("selftest", "states", "tokens", "repeat")):
            checks += [{"part": name, "result": one} for one in objects]

    def write(name, text):
        (out / name).write_text(without_paths(text), "utf-8")

    files = {"doctor.json": doctor, "checks.jsonl": checks, "kernels.jsonl": kernels}
    files |= {f"{name}.json": objects for name, objects in alone.items()}
    for name, objects in files.items():
        if objects:
            write(name, "".join(json.dumps(one) + "\n" for one in objects))
    for path in work.glob("led-base-*.json"):
        write(path.name, path.read_text("utf-8"))
    outcomes = [part["outcome"] for part in found]
    summary = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "device": [gpu["name"] for one in doctor for gpu in one["cuda"]["gpus"]],
        "commit": next((one["commit"] for one in doctor), None),
        "counts": {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))},
        "parts": found,
    }
    write("summary.json", json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()
