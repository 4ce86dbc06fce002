#!/usr/bin/env python3
"""What attention kernels can reach at most, by their machine code: modelled, not measured.

  scripts/kernel_bounds.py [--images FOLDER | --cubin FILE.cubin] [--json FILE] [--svg FILE] [--check FILE]

--images   the fat binaries that a build left behind, with the logs of ptxas beside them (the newest under target/)
--cubin    one cubin in place of them, such as of a trial; without a log there are no spills to see
--json     writes the table; benches/results/static/ has the committed one
--svg      draws it
--check    compares with such a table: fails for a spill that no kernel file declares, for a product of warpgroups that
           ptxas made wait (C75.. in its log), and for a hot loop that has grown by more than 3 %

For every entry with tensor-core products in bf16, and every architecture: registers, spills, blocks on a multiprocessor,
the instructions of one turn of the hot loop by the pipe that executes them, the rate that each pipe would allow by
itself, and the rate of a model that issues the loop's instructions from as many warps as fit, with their control codes
(stalls and scoreboards) and what each pipe takes. The model knows one loop: no memory system, no edges of a pattern, no
launch. Calibration: FlashAttention-2's kernels for head size 64 (forward 128 x 128 in 4 warps, backward 128 x 128 in 8),
compiled by nvcc 13.0 for sm_90a, are modelled at 310 TFLOP/s forward, where 324 are published for 16384 tokens on an
H100, and at 351 backward, where 291 are. No kernel with wgmma was compared: their rates are further from what was seen.

Needs cuobjdump and nvdisasm of CUDA 13: beside NVCC, in PATH, or where scripts/check.sh fetches them to, beside its
nvcc; exits with 77 without them.
"""

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

import kernel_sass

ROOT = Path(__file__).resolve().parent.parent
GROWTH = 1.03

# Multiprocessors, clock in GHz, bytes of shared memory of a multiprocessor, clocks of a scheduler for one
# mma.sync.m16n8k16 and for 32 fp32 operations, by architecture: A100 and H200 by their data sheets. mma.sync reaches 62 %
# of what the tensor cores of an H200 give to wgmma.
CHIPS = {
    "sm_80": {"name": "A100", "processors": 108, "ghz": 1.41, "shared": 164 << 10, "mma": 8.0, "float": 2},
    "sm_90a": {"name": "H200", "processors": 132, "ghz": 1.83, "shared": 228 << 10, "mma": 6.4, "float": 1},
}
SCHEDULERS = 4
# FLOPs of a warp's share of one product: m16n8k16 and m64n64k16 of four warps.
MMA_FLOPS, WGMMA_FLOPS = 2 * 16 * 8 * 16, 2 * 64 * 64 * 16 // 4
# Clocks of wgmma m64n64k16 at 4096 FLOPs a clock, and from its end to where a wait sees it.
WGMMA_CLOCKS, WGMMA_LATENCY = 32, 64
# What part of the scores in tiles of 64 a window of 512 keeps, at 16384 tokens.
USEFUL = {"window_attention": 0.942}

# By prefix of an instruction, the first that fits: pipe, clocks that it takes of a scheduler's share of the pipe, and
# clocks from then to its result. Pipes: tensor cores, exponentials, fp32, integer products (which take a place of fp32,
# too), shared memory, constants, branches, uniform, integers and logic.
PIPES = [
    (r"MUFU|I2F|F2I", "exponential", 8, 22),
    (r"FFMA|FMUL|FADD", "float", 1, 0),
    (r"IMAD", "multiply", 2, 0),
    (r"LDSM.*\.4", "shared", 16, 33),
    (r"LDSM", "shared", 8, 33),
    (r"LDGSTS.*128", "shared", 16, 20),
    (r"LDGSTS", "shared", 4, 20),
    (r"LDS", "shared", 4, 28),
    (r"STS", "shared", 4, 20),
    (r"SHFL", "shared", 4, 24),
    (r"SYNCS", "shared", 2, 20),
    (r"LDG|STG|LDL|STL|ATOM", "shared", 4, 60),
    (r"LDC|ULDC|S2R|S2UR|R2UR|CS2R", "constant", 2, 25),
    (r"BAR|DEPBAR|LDGDEPBAR|WARPGROUP|MEMBAR|FENCE|CCTL", "branch", 1, 20),
    (r"BRA|BSYNC|BSSY|EXIT|NOP|WARPSYNC|BREAK|YIELD|CALL|RET", "branch", 1, 0),
    (r"U[A-Z]", "uniform", 1, 12),
    (r"", "logic", 2, 0),
]


def pipe_of(instruction, chip):
    name = instruction.name
    if name.startswith("HGMMA"):
        return "tensor", WGMMA_CLOCKS, WGMMA_LATENCY
    if name.startswith("HMMA"):
        return "tensor", chip["mma"], 0
    pipe, clocks, latency = next(row[1:] for row in PIPES if re.match(row[0], name))
    return pipe, clocks * chip["float"] if pipe == "float" else clocks, latency


def run(path, warps, chip, turns=8):
    """Clocks that a scheduler takes for one turn of one warp, when `warps` of them go round and round."""
    steps = [(instruction, *pipe_of(instruction, chip)) for instruction in path]
    at = [0] * warps
    # They do not begin together.
    ready = [400 * warp for warp in range(warps)]
    boards = [[0] * 6 for _ in range(warps)]
    # When the groups of each warp's products end, and its newest product.
    groups, newest = [[] for _ in range(warps)], [0] * warps
    busy, clock, last = Counter(), 0, 0
    # The first two turns of all warps together fill the pipes.
    issued, first, all_turns, began = 0, 2 * warps * len(path), turns * warps * len(path), 0

    def may_issue(warp):
        instruction, pipe, _, _ = steps[at[warp] % len(path)]
        if ready[warp] > clock or any(instruction.waits >> i & 1 and boards[warp][i] > clock for i in range(6)):
            return False
        if instruction.name.startswith("WARPGROUP.DEPBAR"):
            pending = int(instruction.text.split(",")[-1], 0)
            own = groups[warp]
            return len(own) <= pending or own[-1 - pending] <= clock
        if instruction.name.startswith("HGMMA"):
            return True
        return busy[pipe] <= clock and (pipe != "multiply" or busy["float"] <= clock)

    while issued < all_turns:
        # The warp that issued last goes on, else the first that can.
        order = [last] + [warp for warp in range(warps) if warp != last]
        warp = next((warp for warp in order if may_issue(warp)), None)
        if warp is not None:
            instruction, pipe, clocks, latency = steps[at[warp] % len(path)]
            if instruction.name.startswith("HGMMA"):
                # Queued: the warp goes on.
                busy[pipe] = max(busy[pipe], clock) + clocks
                newest[warp] = busy[pipe] + latency
                if "gsb0" in instruction.text:
                    groups[warp].append(newest[warp])
            else:
                busy[pipe] = clock + clocks
                if pipe == "multiply":
                    busy["float"] = clock + 1
                if instruction.sets < 6:
                    boards[warp][instruction.sets] = clock + clocks + latency
                if instruction.frees < 6:
                    boards[warp][instruction.frees] = clock + max(clocks, 12)
            ready[warp] = clock + (30 if instruction.name.startswith("BAR.SYNC") else max(1, instruction.stall))
            at[warp] += 1
            issued += 1
            if issued == first:
                began = clock
            last = warp
        clock += 1
    return (clock - began) / (turns - 2) / warps


def shared_bytes(entry, head):
    """As src/ops/attention has it: rows that stay and two stages of columns, or a ring of stages and rows of large heads."""
    backward = "_bwd_" in entry
    if "hopper" in entry:
        return 1024 + 4 * (2 * 64 * head * 2 + 592) + (2 * 128 * head * 2 if backward and head > 64 else 0)
    rows = (2 if backward else 1) * (128 if "_wide_" in entry else 64)
    return (rows + 4 * (32 if backward and head > 64 else 64)) * (head * 2 + 16)


def usage_of(log):
    """(entry, architecture) -> registers and bytes spilled, from what ptxas said."""
    found, key = {}, None
    for line in log.splitlines():
        if match := re.search(r"Compiling entry function '([^']+)' for '([^']+)'", line):
            key = match.groups()
            found[key] = {"registers": 0, "spilled_bytes": 0}
        elif key and (match := re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", line)):
            found[key]["spilled_bytes"] = int(match.group(1)) + int(match.group(2))
        elif key and (match := re.search(r"Used (\d+) registers", line)):
            found[key]["registers"] = int(match.group(1))
    return found


def row_of(entry, architecture, path, registers):
    chip = CHIPS[architecture]
    head = int(re.search(r"_d(\d+)$", entry).group(1))
    hopper = "hopper" in entry
    threads = 128
    if hopper:
        # One warpgroup that loads, and those that compute.
        small = head <= 64
        single, triple = small and entry.startswith("dense"), small and entry.startswith("window_attention_fwd")
        threads = 256 if single else 512 if triple else 384
    # Registers are given to warps in units of 256.
    by_registers = 65536 // (threads // 32 * -(-registers * 32 // 256) * 256)
    by_shared = chip["shared"] // (shared_bytes(entry, head) + 1024)
    blocks = max(1, min(by_registers, by_shared))
    # A warp on each scheduler from every warpgroup that computes.
    warps = blocks * (threads // 128 - hopper)
    pipes = Counter()
    clocks = Counter()
    for instruction in path:
        pipe, taken, _ = pipe_of(instruction, chip)
        pipes[pipe] += 1
        clocks[pipe] += taken
    flops = sum(
        WGMMA_FLOPS if instruction.name.startswith("HGMMA") else MMA_FLOPS
        for instruction in path
        if kernel_sass.is_product(instruction)
    )
    # An instruction a clock, whatever its pipe.
    clocks["issue"] = len(path)
    rate = lambda each: SCHEDULERS * chip["processors"] * chip["ghz"] * flops / each / 1e3
    modelled = rate(run(path, warps, chip))
    useful = next((part for name, part in USEFUL.items() if entry.startswith(name)), 1.0)
    return {
        "entry": entry,
        "architecture": architecture,
        "chip": chip["name"],
        "registers": registers,
        "blocks": blocks,
        "warps_per_scheduler": warps,
        "instructions": len(path),
        "flops": flops,
        "pipes": dict(sorted(pipes.items(), key=lambda item: -item[1])),
        "bound_tflops": {pipe: round(rate(taken)) for pipe, taken in clocks.most_common() if pipe != "branch"},
        "modelled_tflops": round(modelled),
        "useful_tflops": round(modelled * useful),
    }


def backwards(rows):
    """Both passes of each backward together: five products that count, of the seven that they execute."""
    rates = {(row["entry"], row["architecture"]): row for row in rows}
    found = []
    for (entry, architecture), queries in rates.items():
        keys = rates.get((entry.replace("_bwd_q_", "_bwd_kv_"), architecture))
        if "_bwd_q_" not in entry or keys is None:
            continue
        rate = 5 / (3 / queries["useful_tflops"] + 4 / keys["useful_tflops"])
        name = entry.replace("_bwd_q_", "_bwd_")
        found.append({"entry": name, "architecture": architecture, "chip": queries["chip"], "useful_tflops": round(rate)})
    return found


def tool(name):
    """The program, in the toolkit that compiles or in PATH."""
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    fetched = os.environ.get("WATTENTION_NVCC_DIR", str(home / "wattention/nvcc-13.0"))
    places = [Path(folder) / "nvidia/cu13/bin" for folder in (fetched, fetched + "-tools")]
    if os.environ.get("NVCC", "none") != "none":
        places.insert(0, Path(os.environ["NVCC"]).parent)
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(variable):
            places.append(Path(os.environ[variable]) / "bin")
    found = shutil.which(name, path=os.pathsep.join(map(str, places))) or shutil.which(name)
    if not found:
        print(f"skipped: {name} is not here", file=sys.stderr)
        sys.exit(77)
    return found


def images():
    """The folder of the newest build's fat binaries."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    folders = list(target.glob("*/build/wattention-*/out/cuda"))
    if not folders:
        print("skipped: no build with kernels is here", file=sys.stderr)
        sys.exit(77)
    return max(folders, key=lambda folder: folder.stat().st_mtime)


def declared(folder=ROOT / "kernels"):
    """Entries that a kernel file says spill in bf16."""
    lines = (line for path in folder.glob("*.cu") for line in path.read_text().splitlines())
    found = (re.match(r"// spills: (\S+) in bf16: ", line) for line in lines)
    return {match.group(1) for match in found if match}


def table(arguments):
    """Rows of all entries, and what is wrong with how they were compiled."""
    nvdisasm, rows, wrong = tool("nvdisasm"), [], []
    with tempfile.TemporaryDirectory() as work:
        if arguments.cubin:
            jobs = [({arguments.architecture: arguments.cubin}, "")]
        else:
            folder, cuobjdump = arguments.images or images(), tool("cuobjdump")
            found = sorted(Path(folder).glob("*attention-bf16-*.fatbin"))
            jobs = [(kernel_sass.cubins(image, cuobjdump, work), image.with_suffix(".log").read_text()) for image in found]
        for cubins, log in jobs:
            wrong += [f"a product waits: {line.strip()}" for line in log.splitlines() if re.search(r"C75\d\d", line)]
            usage = usage_of(log)
            for entry, architecture in usage:
                spilled = usage[entry, architecture]["spilled_bytes"]
                if spilled and entry not in declared():
                    wrong.append(f"{entry} ({architecture}) spills {spilled} bytes, and its file does not say so")
            for architecture, cubin in sorted(cubins.items()):
                if architecture not in CHIPS:
                    continue
                for entry, (code, labels) in sorted(kernel_sass.functions(cubin, nvdisasm).items()):
                    path = kernel_sass.hot_path(code, labels)
                    if path and re.search(r"_d\d+$", entry):
                        registers = usage.get((entry, architecture), {}).get("registers") or arguments.registers
                        rows.append(row_of(entry, architecture, path, registers))
    return rows, wrong


def compare(rows, committed):
    """What has grown, or is not there any more."""
    now = {(row["entry"], row["architecture"]): row["instructions"] for row in rows}
    wrong = []
    for row in committed:
        key = row["entry"], row["architecture"]
        if key not in now:
            wrong.append(f"{key[0]} ({key[1]}) is in the committed table and was not compiled")
        elif now[key] > GROWTH * row["instructions"]:
            wrong.append(f"the hot loop of {key[0]} ({key[1]}) grew from {row['instructions']} to {now[key]} instructions")
    return wrong


def text(rows):
    lines = ["modelled, not measured: TFLOP/s of the hot loop", ""]
    lines.append(f"{'entry':44} {'chip':5} {'regs':>4} {'blocks':>6} {'instr':>5} {'bound by':>16} {'model':>5} {'useful':>6}")
    for row in rows:
        pipe, bound = next(iter(row["bound_tflops"].items()))
        lines.append(
            f"{row['entry']:44} {row['chip']:5} {row['registers']:4} {row['blocks']:6} {row['instructions']:5}"
            f" {pipe + ' ' + str(bound):>16} {row['modelled_tflops']:5} {row['useful_tflops']:6}"
        )
        lines.append("    " + ", ".join(f"{pipe} {count}" for pipe, count in row["pipes"].items()))
    lines += ["", "both passes of a backward, of whose seven products five count"]
    lines += [f"{row['entry']:44} {row['chip']:5} {row['useful_tflops']:52}" for row in backwards(rows)]
    return "\n".join(lines)


def drawing(rows):
    """Bars of the modelled rates, and a mark at the least bound, of head size 64."""
    shown = [row for row in rows if row["entry"].endswith("_d64")]
    most = max(min(row["bound_tflops"].values()) for row in shown)
    left, wide, high = 330, 520, 22
    parts = []
    for index, row in enumerate(shown):
        y = 64 + index * high
        length = wide * row["modelled_tflops"] / most
        mark = left + wide * min(row["bound_tflops"].values()) / most
        label = f"{row['entry'].removesuffix('_d64')} ({row['chip']})"
        parts.append(f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{label}</text>')
        parts.append(f'<rect x="{left}" y="{y + 3}" width="{length:.0f}" height="{high - 8}" fill="#4a7db5"/>')
        parts.append(f'<path d="M{mark:.0f} {y + 1}v{high - 4}" stroke="#b5544a" stroke-width="2"/>')
        # A number that the mark would cross stands behind it.
        end = mark if mark < left + length + 36 else left + length
        parts.append(f'<text x="{end + 6:.0f}" y="{y + 14}">{row["modelled_tflops"]}</text>')
    height = 80 + len(shown) * high
    title = "Attention kernels, head size 64, bf16: modelled, not measured"
    note = "TFLOP/s of the hot loop by a model of its machine code; the line is what its busiest pipe allows"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + wide + 90} {height}" font-family="sans-serif"'
        f' font-size="12"><rect width="100%" height="100%" fill="white"/><text x="12" y="24" font-size="16">{title}</text>'
        f'<text x="12" y="46" fill="#555">{note}</text>{"".join(parts)}</svg>\n'
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path)
    parser.add_argument("--cubin", type=Path)
    parser.add_argument("--architecture", default="sm_90a", choices=sorted(CHIPS), help="of --cubin")
    parser.add_argument("--registers", type=int, default=168, help="of a thread in --cubin")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--check", type=Path)
    arguments = parser.parse_args()
    rows, wrong = table(arguments)
    print(text(rows))
    if arguments.json:
        report = {"what": "modelled, not measured", "rows": rows, "backwards": backwards(rows)}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    if arguments.svg:
        arguments.svg.write_text(drawing(rows))
    if arguments.check:
        wrong += compare(rows, json.loads(arguments.check.read_text())["rows"])
    for line in wrong:
        print(f"FAILED {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
