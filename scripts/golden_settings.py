"""The settings of generate() that change scores: answers of the golden models, distributions of the next token, and
the keys of GenerationConfig, as transformers has them.

What the files hold and how to compare with them is said in goldens.py.
"""

import json
import random
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, GenerationConfig, LogitsProcessorList, PreTrainedTokenizerFast
from transformers.generation.configuration_utils import METADATA_FIELDS
from transformers.generation.stopping_criteria import StopStringCriteria

from golden_cases import CASES
from golden_generation import MARGIN, MODELS, NOISES, Noise, draw_options, tensors
from golden_models import load, softmax_in_input_precision
from hub_tokenizers import converted

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
CASES_OF_A_MODEL = 44
# What the cards of LED models for book summaries set.
BOOKS = {
    "repetition_penalty": 3.5, "encoder_no_repeat_ngram_size": 3, "no_repeat_ngram_size": 3, "num_beams": 4,
    "length_penalty": 0.8, "early_stopping": True, "min_length": 8, "max_new_tokens": 16,
}
DRAWN = 240


def pieces(vocab):
    """What each token adds to a text: single letters first, so that a string can begin and end inside of a token."""
    letters = [chr(ord("a") + i) for i in range(26)]
    pairs = [a + b for a in letters for b in letters]
    random.Random(3).shuffle(pairs)
    return (SPECIAL + letters + pairs)[:vocab]


def tokenizer_of(vocab):
    inner = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces(vocab))}, merges=[]))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner)


def answers(model, rows, family, options, noise=None):
    """Sequences, and whether each is an answer and no score was lost.

    Rules that look at the input see padding as a part of it, so that an answer would depend on the batch: rows that
    have such rules are answered one by one.
    """
    alone = any(key.startswith("encoder_") for key in options)
    sequences, fine = [], True
    for part in [[row] for row in rows] if alone else [rows]:
        extra = {"tokenizer": tokenizer_of(model.config.vocab_size)} if "stop_strings" in options else {}
        out = model.generate(
            **tensors(part, model.config, family), do_sample=False, return_dict_in_generate=True, output_scores=True,
            logits_processor=LogitsProcessorList([] if noise is None else [Noise(noise)]), **options, **extra,
        )
        sequences += out.sequences.tolist()
        if options.get("num_beams", 1) > 1:
            fine &= bool((out.sequences_scores > -1e8).all())
        fine &= not any(bool(score.isnan().any()) for score in out.scores)
    filler = model.config.pad_token_id
    if options.get("num_beams", 1) > 1 and filler == 0:
        filler = model.config.eos_token_id
    longest = max(map(len, sequences))
    return [row + [filler] * (longest - len(row)) for row in sequences], fine


def draw_settings(picker, config, before):
    """Some settings, with tokens that stand in the answers `before`, so that they matter."""
    said = [token for row in before for token in row[1:] if token > 3] or [7, 9]
    token = lambda: picker.choice(said)
    row = picker.choice(before)
    start = picker.randrange(max(1, len(row) - 2))
    gram = [max(token, 1) for token in row[start : start + picker.choice([2, 2, 3])]]
    makers = {
        "repetition_penalty": lambda: picker.choice([0.7, 1.2, 2.0, 3.5]),
        "encoder_repetition_penalty": lambda: picker.choice([0.5, 1.4, 2.5]),
        "encoder_no_repeat_ngram_size": lambda: picker.choice([1, 2, 3]),
        "bad_words_ids": lambda: [[token()], gram, [config.eos_token_id]][: picker.choice([1, 2, 3])],
        "sequence_bias": lambda: [[[token()], picker.choice([-4.5, 2.5])], [gram, picker.choice([-6.0, 3.5])]],
        "suppress_tokens": lambda: sorted({token(), token()}),
        "begin_suppress_tokens": lambda: [before[0][1]],
        "exponential_decay_length_penalty": lambda: [picker.choice([0, 1, 4]), picker.choice([0.5, 1.1, 1.6])],
        "renormalize_logits": lambda: True,
        "max_time": lambda: picker.choice([0, 1000]),
        "stop_strings": lambda: stop_string(picker, config, before),
    }
    keys = picker.sample(sorted(makers), picker.choice([1, 1, 2, 3]))
    options = {key: makers[key]() for key in keys}
    if "renormalize_logits" in options:
        options["suppress_tokens"] = makers["suppress_tokens"]()
    return options


def stop_string(picker, config, before):
    text = "".join(pieces(config.vocab_size)[token] for token in picker.choice(before)[1:])
    start = picker.randrange(len(text))
    string = text[start : start + picker.choice([1, 2, 3, 5])]
    return picker.choice([string, [string, "never said"]])


def write_settings(name, out):
    """Writes `out`/generation_settings.json and returns a line about it."""
    warnings.simplefilter("ignore", UserWarning)
    out = Path(out)
    batches = json.loads((out / "generation.json").read_text("utf-8"))["batches"]
    picker, cases, near_ties, idle = random.Random(12), [], 0, 0
    torch.nn.functional.softmax = softmax_in_input_precision(original := torch.nn.functional.softmax)
    try:
        for model_name in MODELS:
            case = CASES[model_name]
            exact = load(out / model_name, case, torch.float64, train=False)
            single = load(out / model_name, case, torch.float32, train=False)
            done = 0
            while done < CASES_OF_A_MODEL:
                key = f"{model_name}/{done % 4}"
                rows = batches[key]
                options = dict(BOOKS) if done == 0 else draw_options(picker, exact.config)
                before, _ = answers(exact, rows, case.family, options)
                if done > 0:
                    options |= draw_settings(picker, exact.config, before)
                if "exponential_decay_length_penalty" in options:
                    # A banned end whose score grows is NaN in transformers.
                    for rule in ("min_length", "min_new_tokens", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size"):
                        options.pop(rule, None)
                try:
                    sequences, found = answers(exact, rows, case.family, options)
                except ValueError:
                    # What is forced is suppressed.
                    continue
                if sequences == before and done % 8 and done > 0:
                    idle += 1
                    continue
                others = [answers(single, rows, case.family, options)]
                others += [answers(exact, rows, case.family, options, noise) for noise in range(NOISES)]
                if not found or any(sequences != other for other, _ in others):
                    near_ties += 1
                    continue
                cases.append({"batch": key, "options": options, "sequences": sequences})
                done += 1
    finally:
        torch.nn.functional.softmax = original
    distinct = {json.dumps([case["batch"], case["sequences"]]) for case in cases}
    path = out / f"{name}.json"
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    path.write_text(f'{{"pieces":{json.dumps(pieces(120))},\n"cases":[\n{lines}]}}\n', "utf-8")
    return (
        f"{name}: {path.stat().st_size // 1000} kB, {len(cases)} cases, {len(distinct)} different answers; "
        f"{near_ties} near ties and {idle} settings without effect were drawn again"
    )


def draw_sampling(picker, vocab):
    """Options of a drawn token."""
    token = lambda: picker.randrange(1, vocab)
    makers = {
        "temperature": lambda: picker.choice([0.5, 0.9, 2.0]),
        "top_k": lambda: picker.choice([0, 1, 3, 10, 1000]),
        "top_p": lambda: picker.choice([0.3, 0.8, 0.95]),
        "min_p": lambda: picker.choice([0.02, 0.1, 0.5]),
        "top_h": lambda: picker.choice([0.3, 0.6, 0.9]),
        "typical_p": lambda: picker.choice([0.2, 0.7, 0.95]),
        "epsilon_cutoff": lambda: picker.choice([0.001, 0.02, 0.2]),
        "eta_cutoff": lambda: picker.choice([0.001, 0.02, 0.2]),
        "repetition_penalty": lambda: picker.choice([0.7, 1.2, 3.5]),
        "encoder_repetition_penalty": lambda: picker.choice([0.5, 1.4]),
        "encoder_no_repeat_ngram_size": lambda: picker.choice([1, 2]),
        "no_repeat_ngram_size": lambda: picker.choice([1, 2]),
        "bad_words_ids": lambda: [[token()], [token(), token()]],
        "sequence_bias": lambda: [[[token()], 2.5], [[token()], -3.0], [[token(), token()], 4.0]],
        "suppress_tokens": lambda: [token(), token()],
        "begin_suppress_tokens": lambda: [token()],
        "min_new_tokens": lambda: 6,
        "exponential_decay_length_penalty": lambda: [1, 1.4],
        "renormalize_logits": lambda: True,
    }
    keys = picker.sample(sorted(makers), picker.randint(1, 5))
    options = {key: makers[key]() for key in keys} | {"do_sample": True}
    if "exponential_decay_length_penalty" in options:
        for rule in ("min_new_tokens", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size"):
            options.pop(rule, None)
    if picker.random() < 0.3:
        options["num_beams"] = picker.choice([2, 3])
    return options


def processed(model, options, logits, text, source):
    config = GenerationConfig(
        **options, max_length=30, eos_token_id=[2, 5], pad_token_id=1, decoder_start_token_id=2, bos_token_id=0
    )
    config, _ = model._prepare_generation_config(config)
    model._prepare_special_tokens(config, device="cpu")
    if config.min_new_tokens is not None:
        config.min_length = config.min_new_tokens + 1
    encoder_ids = torch.tensor([source])
    processors = model._get_logits_processor(config, 1, encoder_input_ids=encoder_ids, device="cpu")
    scores = logits.log_softmax(-1) if config.num_beams > 1 else logits
    return processors(torch.tensor([text]), scores)[0]


def write_filters(name, out):
    """Writes `out`/generation_filters.json and returns a line about it."""
    warnings.simplefilter("ignore", UserWarning)
    picker, rng, cases, near = random.Random(13), np.random.default_rng(13), [], 0
    model = load(Path(out) / "led_plain", CASES["led_plain"], torch.float64, train=False)
    while len(cases) < DRAWN:
        vocab = picker.choice([12, 30, 60, 150])
        logits = torch.from_numpy(rng.normal(0, picker.choice([1.0, 3.0]), vocab).round(3))[None]
        text = [2] + [picker.randrange(vocab) for _ in range(picker.choice([0, 1, 4, 7]))]
        source = [picker.randrange(vocab) for _ in range(9)]
        options = draw_sampling(picker, vocab)
        scores = processed(model, options, logits, text, source)
        if scores.isnan().any() or bool((scores == -torch.inf).all()):
            continue
        kept = scores > -torch.inf
        others = [processed(model, options, logits.float(), text, source)]
        for seed in range(NOISES):
            noise = MARGIN * (2 * torch.rand(logits.shape, generator=torch.Generator().manual_seed(seed)) - 1)
            others.append(processed(model, options, logits + noise, text, source))
        if any(not torch.equal(kept, other > -torch.inf) for other in others):
            near += 1
            continue
        values = scores if options.get("num_beams", 1) > 1 else scores.softmax(-1)
        cases.append({
            "options": options, "logits": logits[0].tolist(), "text": text, "input": source,
            "kept": [[int(token), round(float(values[token]), 9)] for token in kept.nonzero()[:, 0]],
        })
    path = Path(out) / f"{name}.json"
    path.write_text("[\n" + ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases) + "]\n", "utf-8")
    return f"{name}: {path.stat().st_size // 1000} kB, {len(cases)} cases; {near} near a bar were drawn again"


def write_texts(name, out):
    """Writes `out`/generation_texts.json: what tokens of two tokenizers add to a text, for stop strings, and what
    decode() makes of ids whether or not tokenizer_config.json asks for clean_up_tokenization_spaces."""
    folder = Path(out) / "hub_tokenizers"
    with tempfile.TemporaryDirectory() as led:
        shutil.copytree(folder / "led", led, dirs_exist_ok=True)
        Path(led, "config.json").write_text('{"model_type": "led"}')
        made = {"led": AutoTokenizer.from_pretrained(led)}
    made["bigbird_pegasus"] = converted(folder / "bigbird_pegasus", 0, None, "[MASK]", 6)
    tokenizers = {}
    for key, tokenizer in made.items():
        mode = StopStringCriteria._get_stop_string_matching_mode(tokenizer)
        strings, ids = StopStringCriteria.clean_tokenizer_vocab(tokenizer, stop_string_matching_mode=mode)
        pieces = {i: string if isinstance(string, bytes) else string.encode() for string, i in zip(strings, ids)}
        chosen = sorted(pieces)[:: max(1, len(pieces) // 150)]
        text = tokenizer(" Yes , he said it . Is x != y ? I do n't know , it 's late !").input_ids
        decoded = {}
        for clean in (True, False):
            tokenizer.clean_up_tokenization_spaces = clean
            decoded[str(clean).lower()] = tokenizer.decode(text, skip_special_tokens=True)
        tokenizers[key] = {"pieces": {str(i): pieces[i].hex() for i in chosen}, "ids": text, "decoded": decoded}
    path = Path(out) / f"{name}.json"
    path.write_text(json.dumps(tokenizers, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return f"{name}: {path.stat().st_size // 1000} kB, {len(tokenizers)} tokenizers"


def write_keys(name, out):
    """Writes `out`/generation_keys.json, the keys of GenerationConfig with their defaults, and returns a line about it."""
    defaults = GenerationConfig._get_default_generation_params()
    keys = {key: defaults.get(key) for key in sorted({*vars(GenerationConfig()), *METADATA_FIELDS})}
    path = Path(out) / f"{name}.json"
    path.write_text(json.dumps(keys, indent=1) + "\n", "utf-8")
    return f"{name}: {len(keys)} keys"
