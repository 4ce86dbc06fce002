"""A binary against transformers over randomly drawn models: logits, the gradient of every parameter, generated tokens.

    python scripts/random_parity.py --binary target/debug/wattention --count 20 --table parity.md

Draws configurations of BART, Pegasus and mBART (widths, odd ones too, heads, layers, activations, scaled embeddings,
biases of the logits, special tokens, padded batches with ignored labels) and settings of generation (greedily and with
beams, forced first and last tokens, banned repetitions), sets random weights, and computes all of it with
transformers in float64. One line a family is printed, and to FILE a Markdown table with one row a model. The exit
status is 1 if a bound does not hold. The bounds are those of the goldens: a relative L2 error of at most 1e-5 for
logits, encoder states and the loss, of 1e-4 for the gradient of every parameter, and equal tokens. Gradients that are 0,
such as those of key biases, may have 1e-6 of the norm of all gradients. As with the goldens, a model is drawn again where
transformers itself is off in float32: by 1e-5 in a gradient, or by a token, which is a near tie.

Needs torch and transformers 5.17, numpy and safetensors.
"""

import argparse
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save_file

from golden_cases import Case
from golden_models import classes, forward, gradients, load, make_inputs, set_random_weights
from gpu_parity import GRADIENTS, KEY_BIASES, STATES, VANISHING, relative

FAMILIES = ("bart", "pegasus", "mbart")
NEW_TOKENS = 10
# Of a gradient of transformers in float32, as in golden_models.py.
OWN_ERROR = 1e-5


def draw(rng, family):
    """One model, its batch and how it generates."""
    encoder_heads, decoder_heads = int(rng.integers(1, 5)), int(rng.integers(1, 5))
    width = math.lcm(encoder_heads, decoder_heads) * int(rng.integers(3, 14))
    source, target = int(rng.integers(3, 64)), int(rng.integers(2, 24))
    batch = int(rng.integers(1, 4))
    config = {
        "vocab_size": int(rng.integers(60, 200)),
        "d_model": width,
        "encoder_layers": int(rng.integers(1, 4)),
        "decoder_layers": int(rng.integers(1, 4)),
        "encoder_attention_heads": encoder_heads,
        "decoder_attention_heads": decoder_heads,
        "encoder_ffn_dim": int(rng.integers(5, 70)),
        "decoder_ffn_dim": int(rng.integers(5, 70)),
        "max_position_embeddings": int(rng.integers(64, 90)),
        "activation_function": str(rng.choice(["gelu", "relu", "gelu_new", "gelu_fast"])),
        "scale_embedding": bool(rng.integers(2)),
        "decoder_start_token_id": int(rng.integers(0, 6)),
        "dropout": 0.0,
    }
    if rng.integers(2):
        config["forced_eos_token_id"] = None
    lengths = tuple(sorted((int(n) for n in rng.integers(1, source + 1, batch)), reverse=True))
    lengths = (source, *lengths[1:])
    targets = tuple(int(n) for n in rng.integers(1, target + 1, batch))
    ignored = {0: (0,)} if targets[0] > 3 and rng.integers(2) else {}
    case = Case(family, int(rng.integers(1 << 30)), config, source, lengths, targets, ignored=ignored,
                logits_bias=bool(rng.integers(2)))
    generation = {"num_beams": int(rng.integers(1, 5))}
    if rng.integers(2):
        generation["forced_bos_token_id"] = int(rng.integers(4, config["vocab_size"]))
    if rng.integers(2):
        generation["no_repeat_ngram_size"] = int(rng.integers(1, 4))
    if generation["num_beams"] > 1:
        generation["length_penalty"] = float(rng.choice([0.5, 1.0, 2.0]))
    return case, generation


def truth(folder, case, batch, generation, dtype):
    """Outputs, gradients and tokens of transformers."""
    model, out = forward(folder, case, batch, dtype, train=False)
    found = {"logits": out.logits, "encoder_last_hidden_state": out.encoder_last_hidden_state, "loss": out.loss}
    found = {key: value.detach().double().numpy() for key, value in found.items()}
    found |= {f"grad.{name}": grad.double().numpy() for name, grad in gradients(model, case, out.loss).items()}
    model = load(folder, case, dtype, train=False)
    source = {name: value for name, value in batch.items() if name != "labels"}
    found["sequences"] = model.generate(**source, do_sample=False, max_new_tokens=NEW_TOKENS, **generation).numpy()
    return found


def run(binary, folder, output, *words):
    command = [binary, *words, "--model", folder, "--inputs", folder / "inputs.safetensors", "--output", output]
    command += ["--quiet", "--device", "cpu"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return load_file(output)


def flags(generation):
    words = ["--max-new-tokens", NEW_TOKENS]
    for key, value in generation.items():
        words += ["--" + key.replace("_", "-"), value]
    return words


def padded(sequences, columns, pad):
    """An earlier end leaves fewer columns."""
    missing = columns - sequences.shape[1]
    return np.pad(sequences, ((0, 0), (0, max(missing, 0))), constant_values=pad)


def compare(binary, folder, case, inputs, generation):
    """The errors of one model; none where float32 cannot tell."""
    batch = {key: torch.from_numpy(value) for key, value in inputs.items()}
    want = truth(folder, case, batch, generation, torch.float64)
    single = truth(folder, case, batch, generation, torch.float32)
    names = [key for key in want if key.startswith("grad.")]
    size = math.sqrt(sum(float(np.sum(want[name] ** 2)) for name in names))
    # Of one target token the decoder's queries and keys decide nothing either; float64 leaves 1e-17 of noise.
    vanishing = [n for n in names if n.endswith(KEY_BIASES) or np.linalg.norm(want[n]) < 1e-12 * size]
    known = [name for name in names if name not in vanishing]
    own = max(relative(single[name], want[name]) for name in known)
    if own > OWN_ERROR or not np.array_equal(want["sequences"], single["sequences"]):
        return None
    output = folder / "output.safetensors"
    got = run(binary, folder, output, "forward", "--grads")
    real = inputs["attention_mask"] == 1
    if sorted(names) != sorted(key for key in got if key.startswith("grad.")):
        sys.exit(f"{folder}: the gradients have other names")
    tokens = run(binary, folder, output, "generate", *flags(generation))["sequences"]
    columns = max(tokens.shape[1], want["sequences"].shape[1])
    pad = load(folder, case, torch.float32, train=False).config.pad_token_id
    equal = np.array_equal(padded(tokens, columns, pad), padded(want["sequences"], columns, pad))
    return {
        "logits": relative(got["logits"], want["logits"]),
        "states": relative(got["encoder_last_hidden_state"][real], want["encoder_last_hidden_state"][real]),
        "loss": relative(got["loss"].reshape(-1), want["loss"].reshape(-1)),
        "gradient": max(relative(got[name], want[name]) for name in known),
        "vanishing": max((float(np.linalg.norm(got[name])) / size for name in vanishing), default=0.0),
        "parameters": len(names),
        "tokens": equal,
    }


def passes(errors):
    """NaN fails."""
    bounds = {"logits": STATES, "states": STATES, "loss": STATES, "gradient": GRADIENTS, "vanishing": VANISHING}
    return errors["tokens"] and all(errors[key] <= bound for key, bound in bounds.items())


def row(family, case, generation, errors):
    config = case.config
    shape = (
        f"{config['d_model']} x {config['encoder_layers']}+{config['decoder_layers']}, heads "
        f"{config['encoder_attention_heads']}/{config['decoder_attention_heads']}, ffn "
        f"{config['encoder_ffn_dim']}/{config['decoder_ffn_dim']}, {config['activation_function']}"
        + (", scaled" if config["scale_embedding"] else "") + (", logits bias" if case.logits_bias else "")
    )
    batch = f"{len(case.lengths)} x {case.source}"
    how = ", ".join(f"{key} {value}" for key, value in generation.items())
    numbers = " | ".join(f"{errors[key]:.1e}" for key in ("logits", "states", "loss", "gradient"))
    equal = "equal" if errors["tokens"] else "DIFFERENT"
    return f"| {family} | {shape} | {batch} | {how} | {numbers} | {errors['parameters']} | {equal} |"


def main():
    parser = argparse.ArgumentParser(description="A binary against transformers over randomly drawn models.")
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--count", type=int, default=20, help="models of each family (20)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--table", type=Path, metavar="FILE")
    args = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    lines = ["| family | model | batch | generation | logits | encoder states | loss | worst gradient | parameters | tokens |",
             "|---|---|---|---|---|---|---|---|---|---|"]
    failed = False
    for family in args.families:
        rng = np.random.default_rng([args.seed, FAMILIES.index(family)])
        worst, done, drawn = {}, 0, 0
        while done < args.count:
            case, generation = draw(rng, family)
            drawn += 1
            with tempfile.TemporaryDirectory() as folder:
                folder = Path(folder)
                config_class, model_class = classes(family)
                model = model_class(config_class(**case.config))
                set_random_weights(model, case)
                model.save_pretrained(folder)
                inputs = make_inputs(case, model.config)
                save_file(inputs, folder / "inputs.safetensors")
                errors = compare(args.binary.resolve(), folder, case, inputs, generation)
            if errors is None:
                continue
            done += 1
            lines.append(row(family, case, generation, errors))
            if not passes(errors):
                failed = True
                print(f"FAILED {lines[-1]}", file=sys.stderr)
            for key in ("logits", "states", "loss", "gradient", "vanishing"):
                worst[key] = max(worst.get(key, 0.0), errors[key])
        shown = ", ".join(f"{key} {value:.1e}" for key, value in worst.items())
        print(f"{family}: {done} models ({drawn - done} drawn again), the worst errors: {shown}")
    if args.table:
        args.table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sys.exit(failed)


if __name__ == "__main__":
    main()
