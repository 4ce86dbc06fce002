"""A tiny PRIMERA: a LED with a token between documents, scored, fine-tuned and scored again by transformers.

What tests/goldens/primera holds is said in goldens.py.
"""

import json
import shutil
import tempfile
from pathlib import Path

import torch
from rouge_score.rouge_scorer import RougeScorer
from transformers import AutoTokenizer, LEDConfig, LEDForConditionalGeneration, LogitsProcessorList

from golden_generation import NOISES, Noise
from golden_models import softmax_in_input_precision

SEPARATOR = "<doc-sep>"
# After the vocabulary of hub_tokenizers/led, as in PRIMERA.
SEPARATOR_ID = 600
CONFIG = {
    "vocab_size": SEPARATOR_ID + 1, "d_model": 32, "attention_window": [16, 16], "dropout": 0.0, "init_std": 0.1,
    "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
    "max_encoder_position_embeddings": 192, "max_decoder_position_embeddings": 32,
}
GENERATION = {"num_beams": 3, "min_new_tokens": 5, "max_new_tokens": 14, "no_repeat_ngram_size": 3, "early_stopping": True}
LENGTHS = {"source": 72, "target": 24}
SEED, STEPS, LEARNING_RATE = 1, 30, 4e-3
MEASURES = ("rouge1", "rouge2", "rougeL")

# Several documents and what they say together.
TRAIN = [
    ("The council met on Monday.", "On Monday the council raised the budget for the school.", "The budget was raised.",
     "The council raised the budget."),
    ("The team tried two remote controls.", "Users liked the small remote control.",
     "The team chose the small remote control."),
    ("The bridge was closed in the storm.", " The storm closed the bridge and the road. ", "Nobody was hurt.",
     "The storm closed the bridge."),
    ("The museum opens a new hall.", "A hall of glass is new in the museum.", "The museum opens a hall of glass."),
]
VALIDATION = [
    ("The council met on Friday.", "The council closed the road to the school.", "The council closed the road."),
    ("The small bridge opens.", "\nThe team of the bridge met.\n", "", "On Monday the small bridge opens to users.",
     "The bridge opens on Monday."),
    ("The museum raised the budget for the hall, and for a remote control of the glass in the hall, which users liked, "
     "so that the team met the council on Monday and again on Friday.", "The storm hurt nobody.",
     "The museum raised the budget."),
]


def write_data(records, split, out):
    rows = []
    for i, (*documents, summary) in enumerate(records):
        rows.append({"id": f"{split}-{i}", "input": SEPARATOR.join(documents), "output": summary})
    (out / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def tokenizer_of(out, model):
    """PRIMERA's: the files of a LED's, and the separator in added_tokens.json alone."""
    (model / "added_tokens.json").write_text(json.dumps({SEPARATOR: SEPARATOR_ID}))
    led = out.parent / "hub_tokenizers" / "led"
    with tempfile.TemporaryDirectory() as place:
        for folder, names in [
            (led, ["vocab.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json"]),
            (model, ["config.json", "added_tokens.json"]),
        ]:
            for name in names:
                shutil.copy(folder / name, place)
        return AutoTokenizer.from_pretrained(place)


def encoded(tokenizer, rows):
    """What each row is in tokens; the first token and every separator are global."""
    all = []
    for row in rows:
        ids = tokenizer(row["input"], truncation=True, max_length=LENGTHS["source"])["input_ids"]
        labels = tokenizer(text_target=row["output"], truncation=True, max_length=LENGTHS["target"])["input_ids"]
        positions = [at for at, id in enumerate(ids) if at == 0 or id == SEPARATOR_ID]
        whole = len(tokenizer(row["input"])["input_ids"])
        all.append({"ids": ids, "tokens": whole, "global": positions, "labels": labels})
    return all


def batch_of(examples, pad):
    longest, widest = (max(len(example[key]) for example in examples) for key in ("ids", "labels"))
    shape = (len(examples), longest)
    batch = {
        "input_ids": torch.full(shape, pad), "attention_mask": torch.zeros(shape, dtype=torch.long),
        "global_attention_mask": torch.zeros(shape, dtype=torch.long), "labels": torch.full((len(examples), widest), -100),
    }
    for b, example in enumerate(examples):
        length = len(example["ids"])
        batch["input_ids"][b, :length] = torch.tensor(example["ids"])
        batch["attention_mask"][b, :length] = 1
        batch["global_attention_mask"][b, example["global"]] = 1
        batch["labels"][b, : len(example["labels"])] = torch.tensor(example["labels"])
    return batch


def tune(model, batch):
    """Losses before each step of AdamW on the whole training split."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


def sequences(model, batch, noise=None):
    source = {name: value for name, value in batch.items() if name != "labels"}
    processors = LogitsProcessorList([] if noise is None else [Noise(noise)])
    return model.generate(**source, logits_processor=processors)


def scored(model, tokenizer, batch, rows):
    """The loss of the batch, the answers, and their ROUGE against the summaries, 0 to 100."""
    with torch.no_grad():
        loss = model(**batch).loss.item()
    found = sequences(model, batch)
    texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in found]
    predictions = [tokenizer.clean_up_tokenization(text).strip() for text in texts]
    scorer = RougeScorer(list(MEASURES), use_stemmer=False)
    scores = [scorer.score(row["output"], text) for row, text in zip(rows, predictions)]
    rouge = {key: sum(100 * score[key].fmeasure for score in scores) / len(scores) for key in MEASURES}
    return {"eval_loss": loss, "sequences": found.tolist(), "predictions": predictions, **rouge}


def write_primera(name, out):
    """Writes `out`/primera and returns a line about it; raises where an answer is a near tie."""
    out = Path(out) / name
    folder = out / "model"
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    model = LEDForConditionalGeneration(LEDConfig(**CONFIG))
    for key, value in GENERATION.items():
        setattr(model.generation_config, key, value)
    model.save_pretrained(folder)
    tokenizer = tokenizer_of(out, folder)
    train, validation = (write_data(records, split, out) for records, split in [(TRAIN, "train"), (VALIDATION, "validation")])
    examples = {"train": encoded(tokenizer, train), "validation": encoded(tokenizer, validation)}
    batches = {split: batch_of(rows, model.config.pad_token_id) for split, rows in examples.items()}

    torch.nn.functional.softmax = softmax_in_input_precision(original := torch.nn.functional.softmax)
    try:
        found = {}
        for dtype in (torch.float64, torch.float32):
            model = LEDForConditionalGeneration.from_pretrained(folder).to(dtype)
            before = scored(model.eval(), tokenizer, batches["validation"], validation)
            losses = tune(model.train(), batches["train"])
            tuned = scored(model.eval(), tokenizer, batches["validation"], validation)
            found[dtype] = {"before": before, "tuned": {"train_losses": losses, **tuned}}
            if dtype == torch.float64:
                answers = [sequences(model, batches["validation"], noise).tolist() for noise in range(NOISES)]
    finally:
        torch.nn.functional.softmax = original
    exact, single = found[torch.float64], found[torch.float32]
    for part in ("before", "tuned"):
        if exact[part]["sequences"] != single[part]["sequences"]:
            raise SystemExit(f"{name}: {part}, an answer is a near tie; change the seed")
    if any(answer != exact["tuned"]["sequences"] for answer in answers):
        raise SystemExit(f"{name}: an answer of the tuned model is a near tie; change the seed")
    drift = max(abs(a / b - 1) for a, b in zip(exact["tuned"]["train_losses"], single["tuned"]["train_losses"]))
    content = {"lengths": LENGTHS, "learning_rate": LEARNING_RATE, **exact, **examples}
    (out / "expected.json").write_text(json.dumps(content, separators=(",", ":")) + "\n")
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    tuned = exact["tuned"]
    return (
        f"{name}: {size // 1000} kB, losses {tuned['train_losses'][0]:.2f} to {tuned['train_losses'][-1]:.2f} (float32 is "
        f"off by {drift:.0e}), ROUGE-1 {exact['before']['rouge1']:.1f} to {tuned['rouge1']:.1f}: {tuned['predictions']}"
    )
