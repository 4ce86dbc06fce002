"""What a binary computes on a device, against transformers' answers in tests/goldens and against itself.

    python scripts/gpu_parity.py states --binary target/release/wattention --device cuda --precision bf16

Prints one JSON object; the exit status is 1 if a check failed. Three sets of checks:

states  `wattention forward` on every model of tests/goldens: logits, encoder states, loss and gradients.
tokens  `wattention generate` on the same: greedy tokens. Equal in fp32; in tf32 and bf16 two almost equal logits may
        change places, so there the share of equal tokens is only reported.
repeat  one forward and backward pass twice, and a short training run twice: the same bits.

Bounds of `states`, relative L2:

fp32    1e-5 for logits, states and loss, 1e-4 for the gradient of every parameter.
bf16    twice the error of transformers itself in bf16 (bf16_error.* of the golden), gradients taken together.
tf32    a quarter of that error. A tf32 factor keeps 11 bits where bf16 keeps 8, so it rounds to an eighth, and the
        factor of two is the same. Nothing else is rounded, which leaves room for tensor cores that cut bits off.
        The gradients of a model with ReLU get the bound of bf16: one unit near zero that changes sides moves them
        by several per cent at any precision.

Key biases, and the global projections of a model without global tokens, have gradient 0; in fp32 theirs may be at
most 1e-6 of the norm of all gradients. scripts/goldens.py says what the goldens hold.

Needs numpy and safetensors.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parent.parent
GOLDENS = ROOT / "tests" / "goldens"
STATES, GRADIENTS, VANISHING = 1e-5, 1e-4, 1e-6
OF_BF16_ERROR = {"bf16": 2.0, "tf32": 0.25}
KEY_BIASES = ("key.bias", "key_global.bias", "k_proj.bias")
REPEATED = ["led_plain", "bigbird_block_sparse"]


def parse_arguments():
    parser = argparse.ArgumentParser(description="A binary's answers on a device, against tests/goldens.")
    parser.add_argument("what", choices=["states", "tokens", "repeat"])
    parser.add_argument("--binary", type=Path, default=ROOT / "target" / "release" / "wattention")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", choices=["fp32", "tf32", "bf16"], default="fp32")
    parser.add_argument("--only", nargs="+", metavar="MODEL", help="folders of tests/goldens (all)")
    return parser.parse_args()


class Binary:
    """The program under test, and the checks it has passed or failed."""

    def __init__(self, args, folder):
        self.args, self.folder, self.checks = args, Path(folder), []

    def run(self, *words):
        """Whether a command worked; the reason is a failed check."""
        options = ["--quiet", "--device", self.args.device, "--precision", self.args.precision]
        command = [str(self.args.binary.resolve()), *map(str, words), *options]
        done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            model = next((Path(word).name for word in words if isinstance(word, Path)), "")
            self.check(f"{model} {words[0]}", math.inf, 0.0, f"exited with {done.returncode}: {said}")
        return done.returncode == 0

    def batch(self, name, command, *flags):
        """The tensors that `forward` or `generate` writes for a golden's batch."""
        model, output = GOLDENS / name, self.folder / "output.safetensors"
        files = ["--inputs", model / "inputs.safetensors", "--output", output]
        return load_file(output) if self.run(command, "--model", model, *files, *flags) else None

    def check(self, what, error, bound, why=None):
        """NaN fails."""
        passed = bool(error <= bound)
        known = float(error) if math.isfinite(error) else str(error)
        extra = {"why": why} if why else {}
        self.checks.append({"check": what, "error": known, "bound": float(bound), "passed": passed, **extra})
        if not passed:
            print(f"FAILED {what}: {why or f'off by {error:.2e}, allowed {bound:.2e}'}", file=sys.stderr)


def relative(got, want):
    """||got - want|| / ||want|| in float64."""
    got, want = (np.asarray(values, np.float64).ravel() for values in (got, want))
    if got.shape != want.shape:
        return math.inf
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


def check_states(binary, name):
    folder = GOLDENS / name
    expected, inputs = load_file(folder / "expected.safetensors"), load_file(folder / "inputs.safetensors")
    real = inputs.get("attention_mask", np.ones_like(inputs["input_ids"])) == 1
    scale = OF_BF16_ERROR.get(binary.args.precision)

    def compare(got, prefix):
        for key in ("logits", "encoder_last_hidden_state"):
            ours, theirs = got[key], expected[prefix + key]
            if key != "logits" and ours.shape == theirs.shape:
                ours, theirs = ours[real], theirs[real]
            bound = scale * float(expected[f"bf16_error.{prefix}{key}"]) if scale else STATES
            binary.check(f"{name} {prefix}{key}", relative(ours, theirs), bound)
        if not scale:
            binary.check(f"{name} {prefix}loss", relative(got["loss"], [expected[prefix + "loss"]]), STATES)

    got = binary.batch(name, "forward")
    if got is not None:
        compare(got, "")
    got = binary.batch(name, "forward", "--train", "--grads")
    if got is not None:
        compare(got, "train_" if "train_logits" in expected else "")
        check_gradients(binary, name, got, expected, scale)


def check_gradients(binary, name, got, expected, scale):
    wanted = {key: value.astype(np.float64) for key, value in expected.items() if key.startswith("grad.")}
    missing = sorted(set(wanted).symmetric_difference(key for key in got if key.startswith("grad.")))
    if missing:
        binary.check(f"{name} gradients", math.inf, 0.0, f"on one side only: {', '.join(missing)}")
        return
    size = math.sqrt(sum(float(np.sum(want**2)) for want in wanted.values()))
    if scale:
        off = math.sqrt(sum(float(np.sum((got[key] - want) ** 2)) for key, want in wanted.items()))
        kinks = json.loads((GOLDENS / name / "config.json").read_text("utf-8"))["activation_function"] == "relu"
        scale = OF_BF16_ERROR["bf16"] if kinks else scale
        binary.check(f"{name} gradients", off / size, scale * float(expected["bf16_error.gradients"]))
        return
    for key, want in wanted.items():
        if key.endswith(KEY_BIASES) or not want.any():
            binary.check(f"{name} {key} vanishes", float(np.linalg.norm(got[key].astype(np.float64))) / size, VANISHING)
        else:
            binary.check(f"{name} {key}", relative(got[key], want), GRADIENTS)


def check_tokens(binary, name):
    with safe_open(GOLDENS / name / "expected.safetensors", "np") as file:
        want, generation = file.get_tensor("greedy_tokens"), json.loads(file.metadata()["generation"])
    got = binary.batch(name, "generate", "--max-new-tokens", str(generation["max_new_tokens"]))
    if got is None:
        return
    got = got["sequences"]
    # An earlier end leaves fewer columns.
    share = float(np.mean(got == want)) if got.shape == want.shape else 0.0
    binary.check(f"{name} greedy tokens that differ", 1.0 - share, 0.0 if binary.args.precision == "fp32" else 1.0)


def check_repeat(binary):
    for name in binary.args.only or REPEATED:
        first, second = (binary.batch(name, "forward", "--train", "--grads") for _ in range(2))
        if first is not None and second is not None:
            differ = [key for key in first if first[key].tobytes() != second[key].tobytes()]
            binary.check(f"{name} tensors that differ between two runs", len(differ), 0)
    weights = []
    for number in range(2):
        run = binary.folder / f"run-{number}"
        options = "--no-predict --max-steps 3 --max-train-samples 3 --max-eval-samples 1 --max-source-length 256"
        sizes = "--max-target-length 16 --per-device-train-batch-size 1"
        model = ["--model", ROOT / "weights" / "tiny-led", "--dataset", "qmsum-slice", "--output-dir", run]
        if not binary.run("finetune", *model, *options.split(), *sizes.split()):
            return
        weights.append((run / "model" / "model.safetensors").read_bytes())
    binary.check("bytes of the model that differ after training twice", int(weights[0] != weights[1]), 0)


def summary(binary):
    """Every state and every failure; of passed gradients, the worst of each model."""
    shown, worst = [], {}
    for check in binary.checks:
        kind = check["check"].split()[1:2]
        if not check["passed"] or not kind or not kind[0].startswith("grad."):
            shown.append(check)
            continue
        key = (check["check"].split()[0], check["check"].endswith("vanishes"))
        if key not in worst or worst[key]["error"] < check["error"]:
            worst[key] = check
    return {
        "what": binary.args.what,
        "device": binary.args.device,
        "precision": binary.args.precision,
        "checks": len(binary.checks),
        "failed": sum(not check["passed"] for check in binary.checks),
        "shown": shown + list(worst.values()),
    }


def main():
    args = parse_arguments()
    names = args.only or sorted(path.parent.name for path in GOLDENS.glob("*/inputs.safetensors"))
    with tempfile.TemporaryDirectory() as folder:
        binary = Binary(args, folder)
        if args.what == "repeat":
            check_repeat(binary)
        else:
            for name in names:
                {"states": check_states, "tokens": check_tokens}[args.what](binary, name)
    result = summary(binary)
    print(json.dumps(result))
    sys.exit(result["failed"] > 0 or not binary.checks)


if __name__ == "__main__":
    main()
