"""Greedy and beam search of the golden models under many settings, as transformers' generate() answers them.

What generation.json holds and how to compare with it is said in goldens.py.
"""

import json
import random
import warnings
from pathlib import Path

import numpy as np
import torch
from transformers import LogitsProcessor, LogitsProcessorList

from golden_cases import CASES
from golden_models import load, softmax_in_input_precision

# Of each model: how many tokens its inputs have at least and at most, and its cases.
MODELS = {
    "led_plain": (3, 60, 48),
    "led_windows_per_layer": (5, 50, 32),
    "led_no_global": (2, 30, 32),
    "led_relu_bias": (4, 40, 32),
    "led_gelu_new": (4, 40, 24),
    "bigbird_block_sparse": (180, 250, 32),
    "bigbird_full_fallback": (20, 88, 32),
    "bigbird_bias_relu": (75, 120, 24),
    "bart_plain": (4, 60, 32),
    "bart_scaled": (4, 60, 24),
    "pegasus_plain": (4, 60, 32),
    "mbart_plain": (4, 60, 24),
}
BATCHES = 4
# By this much, at random, every score may be off without another token being chosen.
MARGIN = 2e-4
NOISES = 4
GRID = {
    "num_beams": [1, 2, 3, 4, 5, 8],
    "max_new_tokens": [1, 2, 7, 12, 16, 20],
    "length_penalty": [-1.0, 0.0, 0.8, 1.0, 2.0, 5.0],
    "early_stopping": [True, False, "never"],
    "no_repeat_ngram_size": [0, 0, 1, 2, 3],
    "min_length": [0, 0, 3, 9],
    "min_new_tokens": [None, None, None, 5],
    "forced_bos_token_id": [None, None, None, 7],
    "forced_eos_token_id": [None, None, None, "eos"],
}
ONLY_BEAMS = ("length_penalty", "early_stopping", "num_return_sequences")


class Noise(LogitsProcessor):
    """Moves every score by up to MARGIN."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, input_ids, scores):
        return scores + MARGIN * (2 * torch.rand(scores.shape, generator=self.generator) - 1)


def make_batch(rng, name, config):
    """Inputs of unequal lengths, each ending in EOS."""
    shortest, longest, _ = MODELS[name]
    lengths = rng.integers(shortest, longest + 1, rng.integers(1, 5))
    rows = [rng.integers(4, config.vocab_size, length) for length in lengths]
    for row in rows:
        row[-1] = config.eos_token_id
    return [row.tolist() for row in rows]


def tensors(rows, config, family):
    longest = max(map(len, rows))
    input_ids = torch.full((len(rows), longest), config.pad_token_id)
    mask = torch.zeros_like(input_ids)
    for b, row in enumerate(rows):
        input_ids[b, : len(row)] = torch.tensor(row)
        mask[b, : len(row)] = 1
    batch = {"input_ids": input_ids, "attention_mask": mask}
    if family == "led":
        batch["global_attention_mask"] = torch.zeros_like(mask)
        batch["global_attention_mask"][:, 0] = 1
    return batch


def draw_options(picker, config):
    """One point of the grid, without what is at its default."""
    options = {key: picker.choice(values) for key, values in GRID.items()}
    if options["num_beams"] == 1:
        options = {key: value for key, value in options.items() if key not in ONLY_BEAMS}
    elif picker.random() < 0.25:
        options["num_return_sequences"] = picker.randint(2, options["num_beams"])
    if options["forced_eos_token_id"] == "eos":
        options["forced_eos_token_id"] = config.eos_token_id
    if picker.random() < 0.3:
        options["max_length"] = options.pop("max_new_tokens") + 1
    unset = {"no_repeat_ngram_size": 0, "min_length": 0}
    return {key: value for key, value in options.items() if value is not None and unset.get(key) != value}


def generate(model, batch, options, noise=None):
    """Sequences, and whether every one of them is an answer: empty places are ties, in no order that topk promises."""
    processors = LogitsProcessorList([] if noise is None else [Noise(noise)])
    out = model.generate(
        **batch, do_sample=False, logits_processor=processors, return_dict_in_generate=True, output_scores=True,
        **options,
    )
    scores = out.sequences_scores if options["num_beams"] > 1 else torch.zeros(1)
    return out.sequences, bool((scores > -1e8).all())


def write_generation(name, out):
    """Writes `out`/generation.json and returns a line about it."""
    # That a minimum above the maximum cannot be met, which is meant.
    warnings.simplefilter("ignore", UserWarning)
    out = Path(out)
    picker, batches, cases, near_ties = random.Random(11), {}, [], 0
    torch.nn.functional.softmax = softmax_in_input_precision(original := torch.nn.functional.softmax)
    try:
        for number, (model_name, (_, _, wanted)) in enumerate(MODELS.items()):
            case, rng = CASES[model_name], np.random.default_rng(500 + number)
            exact = load(out / model_name, case, torch.float64, train=False)
            single = load(out / model_name, case, torch.float32, train=False)
            for b in range(BATCHES):
                batches[f"{model_name}/{b}"] = make_batch(rng, model_name, exact.config)
            done = 0
            while done < wanted:
                key = f"{model_name}/{done % BATCHES}"
                batch = tensors(batches[key], exact.config, case.family)
                options = draw_options(picker, exact.config)
                sequences, found = generate(exact, batch, options)
                others = [generate(single, batch, options)]
                others += [generate(exact, batch, options, noise) for noise in range(NOISES)]
                if not found or not all(torch.equal(sequences, other) for other, _ in others):
                    near_ties += 1
                    continue
                cases.append({"batch": key, "options": options, "sequences": sequences.tolist()})
                done += 1
    finally:
        torch.nn.functional.softmax = original
    distinct = {json.dumps([case["batch"], case["sequences"]]) for case in cases}
    if len(cases) < 200 or len(distinct) < len(cases) // 2:
        raise SystemExit(f"{name}: {len(cases)} cases, {len(distinct)} different answers")
    path = out / f"{name}.json"
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    rows = ",\n".join(f'"{key}":{json.dumps(batch, separators=(",", ":"))}' for key, batch in batches.items())
    path.write_text(f'{{"batches":{{\n{rows}}},\n"cases":[\n{lines}]}}\n', "utf-8")
    return (
        f"{name}: {path.stat().st_size // 1000} kB, {len(cases)} cases, {len(distinct)} different answers; "
        f"{near_ties} near ties were drawn again"
    )
