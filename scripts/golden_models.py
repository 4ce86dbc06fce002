"""Tiny random models of every family with transformers' own results, computed in float64.

What each folder holds and how to compare with it is said in goldens.py.
"""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING

from golden_cases import CASES

IGNORED = -100
MAX_NEW_TOKENS = 12
TRAIN_STEPS = 10
# Families whose bfloat16 error is the root mean square of several draws; the goldens of the older ones hold one draw.
DRAWN_FAMILIES = {"bart", "mbart", "pegasus"}
DRAWS = 8


def classes(family):
    """The configuration and the model that transformers has for a `model_type`."""
    config_class = CONFIG_MAPPING[family]
    return config_class, MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING[config_class]


def trained(model, case):
    """(name, parameter) of all but Pegasus' sinusoids, to which no gradient flows."""
    constant = "embed_positions" if case.family == "pegasus" else None
    return [(name, p) for name, p in model.named_parameters() if constant is None or constant not in name]


def softmax_in_input_precision(softmax):
    """LED asks for a float32 softmax; a float64 input keeps its precision, so that the truth is float64."""

    def wrapped(input, dim=None, _stacklevel=3, dtype=None):
        if input.dtype == torch.float64:
            dtype = None
        return softmax(input, dim=dim, _stacklevel=_stacklevel, dtype=dtype)

    return wrapped


def set_random_weights(model, case):
    """Weights large enough that attention is far from uniform; biases, norms and the pad row are random too."""
    rng = np.random.default_rng(case.seed)
    with torch.no_grad():
        for name, parameter in sorted(trained(model, case)):
            noise = torch.from_numpy(rng.standard_normal(tuple(parameter.shape)).astype(np.float32))
            if "norm" in name:
                parameter.copy_(1 + 0.2 * noise if name.endswith("weight") else 0.1 * noise)
            elif "embed_positions" in name:
                parameter.copy_(0.8 * noise)
            elif "shared" in name:
                parameter.copy_(0.4 * noise)
                # So that greedy decoding stops early now and then.
                parameter[model.config.eos_token_id] *= 2
            elif name.endswith("bias"):
                parameter.copy_(0.2 * noise)
            else:
                parameter.copy_(1.4 / parameter.shape[1] ** 0.5 * noise)
        if case.logits_bias:
            noise = rng.standard_normal(model.final_logits_bias.shape).astype(np.float32)
            model.final_logits_bias.copy_(torch.from_numpy(noise))


def make_inputs(case, config):
    """Random ids above the special ones, each source ending in EOS, padded on the right."""
    rng = np.random.default_rng(1000 + case.seed)
    batch = len(case.lengths)
    input_ids = np.full((batch, case.source), config.pad_token_id, np.int64)
    attention_mask = np.zeros((batch, case.source), np.int64)
    labels = np.full((batch, max(case.targets)), IGNORED, np.int64)
    for b, (length, target) in enumerate(zip(case.lengths, case.targets)):
        input_ids[b, :length] = rng.integers(4, config.vocab_size, length)
        input_ids[b, length - 1] = config.eos_token_id
        attention_mask[b, :length] = 1
        labels[b, :target] = rng.integers(4, config.vocab_size, target)
        labels[b, target - 1] = config.eos_token_id
        for position in case.ignored.get(b, ()):
            labels[b, position] = IGNORED
    inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}
    if case.global_tokens is not None:
        mask = np.zeros_like(attention_mask)
        for b, positions in enumerate(case.global_tokens):
            mask[b, list(positions)] = 1
        inputs["global_attention_mask"] = mask
    return inputs


def load(folder, case, dtype, train):
    """A fresh model from the files: BigBird's switch to full attention would outlive one input."""
    return classes(case.family)[1].from_pretrained(folder).to(dtype).train(train)


def forward(folder, case, batch, dtype, train):
    model = load(folder, case, dtype, train)
    return model, model(**batch)


def gradients(model, case, loss):
    """By state_dict name; a parameter that took no part (LED's global projections) has gradient zero."""
    loss.backward()
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad
        for name, p in trained(model, case)
    }


def train_losses(folder, case, batch, dtype):
    model = load(folder, case, dtype, train=True)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01
    )
    losses = []
    for _ in range(TRAIN_STEPS):
        optimizer.zero_grad()
        loss = model(**batch).loss
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
    return torch.tensor(losses, dtype=torch.float64)


def greedy(folder, case, batch, dtype):
    """Tokens [B, L] and the smallest gap between the best and second logit of any unfinished row."""
    model = load(folder, case, dtype, train=False)
    source = {name: value for name, value in batch.items() if name != "labels"}
    out = model.generate(
        **source, num_beams=1, do_sample=False, max_new_tokens=MAX_NEW_TOKENS,
        return_dict_in_generate=True, output_logits=True,
    )
    margin, running = float("inf"), torch.ones(len(case.lengths), dtype=torch.bool)
    for step, logits in enumerate(out.logits):
        best = logits[running].double().topk(2).values
        margin = min(margin, (best[:, 0] - best[:, 1]).min().item())
        running &= out.sequences[:, step + 1] != model.config.eos_token_id
    return out.sequences, margin


def compute(folder, case, batch, dtype):
    """Everything that expected.safetensors holds, in `dtype`, and the greedy margin."""
    result = {}
    model, out = forward(folder, case, batch, dtype, train=False)
    outputs = {"": out}
    if case.family == "bigbird_pegasus":
        model, out = forward(folder, case, batch, dtype, train=True)
        outputs["train_"] = out
    for prefix, values in outputs.items():
        result[prefix + "logits"] = values.logits.detach()
        result[prefix + "loss"] = values.loss.detach().double()
        result[prefix + "encoder_last_hidden_state"] = values.encoder_last_hidden_state.detach()
    for name, value in gradients(model, case, out.loss).items():
        result["grad." + name] = value
    result["train_losses"] = train_losses(folder, case, batch, dtype)
    result["greedy_tokens"], margin = greedy(folder, case, batch, dtype)
    return result, margin


def slope_error(folder, case, batch, truth):
    """Error of the gradients along a random direction against a central difference, over the gradients' norm.

    Far below float32 precision only if nothing on the way is rounded to float32.
    """
    names = [name for name in truth if name.startswith("grad.")]
    rng = np.random.default_rng(2000 + case.seed)
    direction = {n: torch.from_numpy(rng.standard_normal(tuple(truth[n].shape))) for n in names}
    total = sum(truth[n].norm().item() ** 2 for n in names) ** 0.5
    losses, step = [], 1e-7
    for signed_step in (step, -step):
        model = load(folder, case, torch.float64, train=True)
        # Looking up the pad row gives it no gradient (padding_idx), although the loss depends on it.
        shared = "grad.led.shared.weight" if case.family == "led" else "grad.model.shared.weight"
        direction[shared][model.config.pad_token_id] = 0
        with torch.no_grad():
            for name, parameter in trained(model, case):
                parameter.add_(direction["grad." + name], alpha=signed_step)
            losses.append(model(**batch).loss.item())
    expected = sum((truth[n] * direction[n]).sum().item() for n in names)
    return abs((losses[0] - losses[1]) / (2 * step) - expected) / total


def bf16_errors(folder, case, batch, truth):
    """Relative errors of transformers itself in bfloat16: what another engine may have twice of."""
    real = batch["attention_mask"].bool()
    parts = {"logits": lambda out: out.logits, "encoder_last_hidden_state": lambda out: out.encoder_last_hidden_state}
    modes = {"": False, "train_": True} if case.family == "bigbird_pegasus" else {"": False}
    errors = {}
    for prefix, train in modes.items():
        model, out = forward(folder, case, batch, torch.bfloat16, train)
        for key, part in parts.items():
            value, wanted = part(out).detach(), truth[prefix + key]
            if key.startswith("encoder"):
                value, wanted = value[real], wanted[real]
            errors[f"bf16_error.{prefix}{key}"] = relative(value, wanted)
    grads = gradients(model, case, out.loss)
    draws = [gradient_error(grads, {name: truth["grad." + name] for name in grads})]
    if case.family in DRAWN_FAMILIES:
        draws += [moved_gradient_error(folder, case, batch, seed) for seed in range(1, DRAWS)]
    errors["bf16_error.gradients"] = (sum(error**2 for error in draws) / len(draws)) ** 0.5
    return {key: torch.tensor(value, dtype=torch.float64) for key, value in errors.items()}


def gradient_error(grads, wanted):
    off = sum((grads[n].double() - wanted[n]).norm().item() ** 2 for n in grads)
    return (off / sum(wanted[n].norm().item() ** 2 for n in grads)) ** 0.5


def moved_gradient_error(folder, case, batch, seed):
    """The bfloat16 error of the gradients of a model whose weights are moved by a thousandth, half of bfloat16's unit.

    One model's error is one draw: for bart_scaled eight of them lie between 0.06 and 0.15.
    """
    found = []
    for dtype in (torch.float64, torch.bfloat16):
        model = load(folder, case, torch.float64, train=False)
        rng = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for _, parameter in trained(model, case):
                parameter.mul_(1 + 1e-3 * torch.randn(parameter.shape, generator=rng, dtype=torch.float64))
        model = model.to(dtype)
        found.append(gradients(model, case, model(**batch).loss))
    return gradient_error(found[1], found[0])


def relative(value, truth):
    return ((value.double() - truth).norm() / truth.norm()).item()


def write_case(name, out):
    """Writes `out`/name and returns a line of checks; raises when one of them fails."""
    case = CASES[name]
    folder = Path(out) / name
    folder.mkdir(parents=True, exist_ok=True)
    config_class, model_class = classes(case.family)
    model = model_class(config_class(**case.config))
    set_random_weights(model, case)
    model.save_pretrained(folder)
    inputs = make_inputs(case, model.config)
    save_file(inputs, folder / "inputs.safetensors")

    batch = {key: torch.from_numpy(value) for key, value in inputs.items()}
    torch.nn.functional.softmax = softmax_in_input_precision(original := torch.nn.functional.softmax)
    try:
        truth, margin = compute(folder, case, batch, torch.float64)
        single, _ = compute(folder, case, batch, torch.float32)
        slope = slope_error(folder, case, batch, truth)
    finally:
        torch.nn.functional.softmax = original
    truth.update(bf16_errors(folder, case, batch, truth))

    grads = [key for key in truth if key.startswith("grad.")]
    total = sum(truth[key].norm() ** 2 for key in grads) ** 0.5
    for key in grads:
        # Softmax ignores a shift, so key biases have gradient 0; float64 leaves 1e-17 of noise.
        if truth[key].norm() < 1e-12 * total:
            truth[key] = torch.zeros_like(truth[key])
    nonzero = [key for key in grads if truth[key].any()]
    outputs = [key for key in single if key.endswith(("logits", "encoder_last_hidden_state"))]
    errors = {
        "outputs": max(relative(single[key], truth[key]) for key in outputs),
        "gradient": max(relative(single[key], truth[key]) for key in nonzero),
        "train_losses": relative(single["train_losses"], truth["train_losses"]),
        "slope": slope,
    }
    limits = {"outputs": 1e-6, "gradient": 1e-5, "train_losses": 1e-6, "slope": 1e-7}
    for key, limit in limits.items():
        if not errors[key] <= limit:
            raise SystemExit(f"{name}: {key} error {errors[key]:.1e} above {limit:.1e}")
    if not margin > 1e-3 or not torch.equal(single["greedy_tokens"], truth["greedy_tokens"]):
        raise SystemExit(f"{name}: greedy decoding is a near tie (margin {margin:.1e}); change the seed")

    stored = {}
    for key, value in truth.items():
        keep = key.endswith(("loss", "losses")) or key.startswith("bf16_") or value.dtype == torch.int64
        stored[key] = (value if keep else value.float()).contiguous().numpy()
    # One metadata key: safetensors writes several in no fixed order.
    generation = json.dumps({"num_beams": 1, "max_new_tokens": MAX_NEW_TOKENS})
    save_file(stored, folder / "expected.safetensors", metadata={"generation": generation})
    sizes = sum(path.stat().st_size for path in folder.iterdir())
    shown = " ".join(f"{key} {value:.1e}" for key, value in errors.items())
    tokens = truth["greedy_tokens"].tolist()
    return f"{name}: {sizes // 1000} kB, float32 against float64: {shown}; margin {margin:.2f}, greedy {tokens}"
