"""Writes what scripts/gpu.sh found so far: summary.json and the results of its parts, without this machine's paths.

    python3 scripts/gpu_report.py WORK OUT

WORK/parts has a line per part: name, outcome, seconds and, unless all went well, why, between tabs. WORK/NAME.out is
what the part printed, one JSON object or nothing; WORK/steps-*.json and WORK/*-peers.json are comparisons. In OUT stand
few files:

doctor.json             the machine
checks.jsonl            a line per check that computes: {"part", "result"}
kernels.jsonl           a line per step, and per precision of the cases, that was timed kernel by kernel
limits.json             what the device reached: copies, products, exponentials
attention.json          attention by kind, pass, length and precision
attention-ENGINE.json   window attention in bf16, by each of the kernels that the GPU has
profile.json            a training step by phase and kernel, with joules
led-base-*.json         steps beside PyTorch's, one file a precision, in the form of benches/baselines/compare.py
attention-peers.json    attention beside FlexAttention, cuDNN and FlashAttention, as far as they are here
generate-peers.json     generation beside transformers
summary.json            outcome and seconds of every part; which claims of README.md they settle; how often as fast
                        the attention kernels for Hopper are, and whether they may be the default

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
ALONE = ("limits", "attention", "attention-mma", "attention-hopper", "profile")

# Claims of README.md that a GPU has to show, and the parts that do when all of them went well.
CLAIMS = {
    "values on a GPU are those of transformers": ("states-fp32", "states-bf16", "tokens-fp32", "tokens-bf16"),
    "the same seed gives the same bits": ("repeat-fp32", "repeat-tf32", "repeat-bf16"),
    "every kernel is right, and steps are graphs": ("selftest-fp32", "selftest-tf32", "selftest-tf32x3", "selftest-bf16"),
    "no kernel reads or writes where it may not": ("memcheck", "memcheck-bf16"),
    "the speed of steps beside PyTorch": ("steps-fp32", "steps-tf32", "steps-bf16"),
    "the speed of attention beside PyTorch": ("attention-peers",),
    "the speed of generation beside PyTorch": ("generate-peers",),
}


def settled(found):
    """Of each claim whether this run shows it, refutes it or leaves it open."""
    outcome = {part["part"]: part["outcome"] for part in found}

    def verdict(names):
        outcomes = {outcome.get(name, "skipped") for name in names}
        return "refuted" if "failed" in outcomes else "shown" if outcomes == {"ok"} else "open"

    return {claim: verdict(names) for claim, names in CLAIMS.items()}


def engines(alone, found):
    """The time of mma over that of hopper, by pass and sizes; whether hopper may be the default."""
    rows = {}
    for engine in ("mma", "hopper"):
        for report in alone.get(f"attention-{engine}", []):
            for row in report.get("rows", []):
                key = f"{row['pass']}, {row['batch_size']} x {row['length']}"
                rows.setdefault(key, {})[engine] = row["median_s"]
    faster = {key: round(both["mma"] / both["hopper"], 3) for key, both in rows.items() if len(both) == 2}
    outcome = {part["part"]: part["outcome"] for part in found}
    right = all(outcome.get(name) == "ok" for name in ("selftest-bf16", "states-bf16-hopper", "repeat-bf16-hopper"))
    best = bool(faster) and min(faster.values()) > 1
    return {"mma_over_hopper": faster, "hopper_is_right": right, "hopper_may_be_default": right and best}


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
    for path in [*work.glob("steps-*.json"), *work.glob("*-peers.json")]:
        write(path.name.replace("steps-", "led-base-"), path.read_text("utf-8"))
    outcomes = [part["outcome"] for part in found]
    summary = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "device": [gpu["name"] for one in doctor for gpu in one["cuda"]["gpus"]],
        "commit": next((one["commit"] for one in doctor), None),
        "counts": {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))},
        "claims": settled(found),
        "engines": engines(alone, found),
        "parts": found,
    }
    write("summary.json", json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()
