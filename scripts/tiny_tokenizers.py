"""Regenerates the tokenizers of the embedded models and the golden that src/text is compared with.

    pip install transformers==5.17.0 tokenizers==0.23.3
    python scripts/tiny_tokenizers.py

Writes weights/tiny-led/, the same into weights/small-led/ and weights/tiny-bart/, and weights/tiny-bigbird-pegasus/
(tokenizer.json, tokenizer_config.json, special_tokens_map.json) and tests/goldens/tokenizers.json. The same versions write
the same bytes.

Both are trained on the training meetings of weights/data/qmsum-slice, each transcript, query and answer once, and
have 2048 tokens, special tokens included:

tiny-led               byte-level BPE like RoBERTa's: <s> 0, <pad> 1, </s> 2, <unk> 3, <mask> 2047, `<s> A </s>`
tiny-bigbird-pegasus   Unigram like SentencePiece's: <pad> 0, </s> 1, <s> 2, <unk> 3, `A </s>`

The golden holds 50 `cases`, a `text` or the input of the `example` of qmsum-slice with that id, each with a
`max_length`; and per tokenizer what transformers makes of each: `ids` (truncated, special tokens included), `kept`
(ids decoded without special tokens) and `cleaned` (the same after clean_up_tokenization).
"""

import json
import os
import re
from pathlib import Path

# One thread, so that nothing is summed in the order in which threads finish.
os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

ROOT = Path(__file__).resolve().parent.parent
SLICE = ROOT / "weights" / "data" / "qmsum-slice"
VOCABULARY = 2048
LONGEST = 4096


def tidy(text):
    """As src/data/qmsum.rs: no annotation marks, single spaces."""
    return " ".join(re.sub(r"\{[A-Za-z ]+\}", " ", text).split())


def meetings(split):
    """Of each meeting: the name, the transcript, the queries (general ones first), the answers."""
    for path in sorted((SLICE / split).glob("*.json")):
        meeting = json.loads(path.read_text())
        turns = [(tidy(turn["speaker"]), tidy(turn["content"])) for turn in meeting["meeting_transcripts"]]
        items = meeting["general_query_list"] + meeting["specific_query_list"]
        yield (
            path.stem,
            "\n".join(f"{speaker}: {words}" for speaker, words in turns if words),
            [tidy(item["query"]) for item in items],
            [tidy(item["answer"]) for item in items],
        )


def training_texts():
    for _, transcript, queries, answers in meetings("train"):
        yield from (transcript, *queries, *answers)


def special(content, **options):
    return AddedToken(content, special=True, normalized=False, **options)


def train_led():
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = [special(token) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 1,
        special_tokens=specials,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(training_texts(), trainer)
    tokenizer.add_special_tokens([special("<mask>", lstrip=True)])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), True, False)
    return tokenizer, {
        "tokenizer_class": "LEDTokenizer",
        "add_prefix_space": False,
        "trim_offsets": True,
        **roles(bos="<s>", eos="</s>", sep="</s>", cls="<s>", unk="<unk>", pad="<pad>", mask="<mask>"),
    }


def train_bigbird_pegasus():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    metaspace = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace])
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[special(token) for token in ("<pad>", "</s>", "<s>", "<unk>")],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(training_texts(), trainer)
    tokenizer = with_settled_scores(tokenizer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A $B </s>", special_tokens=[("</s>", 1)]
    )
    return tokenizer, {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **roles(bos="<s>", eos="</s>", unk="<unk>", pad="<pad>"),
    }


def with_settled_scores(tokenizer):
    """The same pieces in one order: the trainer sums, and ranks its rarest characters, in the order of a hash map."""
    content = json.loads(tokenizer.to_str())
    pieces = content["model"]["vocab"]
    specials, pieces = pieces[:4], pieces[4:]
    floor = min(score for piece, score in pieces if len(piece) > 1)
    pieces = [[piece, round(max(score, floor), 6)] for piece, score in pieces]
    content["model"]["vocab"] = specials + sorted(pieces, key=lambda piece: (-piece[1], piece[0]))
    return Tokenizer.from_str(json.dumps(content, ensure_ascii=False))


def roles(**tokens):
    return {f"{role}_token": token for role, token in tokens.items()}


def save(folder, tokenizer, config, longest=LONGEST):
    folder.mkdir(parents=True, exist_ok=True)
    assert tokenizer.get_vocab_size() == VOCABULARY, tokenizer.get_vocab_size()
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", {**config, "model_max_length": longest})
    tokens = {key: value for key, value in config.items() if key.endswith("_token")}
    write_json(folder / "special_tokens_map.json", tokens)


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def golden_cases():
    """50 texts with their length limits."""
    odd = [
        ("", 8),
        (" ", 8),
        ("a", 8),
        ("Hello world", 64),
        ("Hello  world \n\n tabs\tand\u00a0spaces  ", 64),
        ("don't we'll they've I'm it's o'clock '90s", 64),
        ("1234567890 3.14159 1,000,000 50% $5", 64),
        ("café naïve Zürich ŷ ô — “quoted” …", 64),
        ("日本語のテキスト と English", 64),
        ("🙂👩‍👩‍👧 emoji \U0001f1ec\U0001f1e7", 64),
        ("e\u0301 ﬁne ½ Ⅷ ①", 64),
        ("a\u0000b\u001fc\u200bd\ufeffe", 64),
        ("<s> inside </s> the <mask> text <pad> <unk>", 64),
        ("before<mask>after  <mask>", 64),
        ("▁already▁there ▁", 64),
        ("x" * 400, 64),
        (" ".join(["word"] * 400), 64),
        ("... !!! ??? ,,, ' '", 64),
        ("UPPER lower MiXeD CamelCase snake_case", 64),
        ("one two three", 3),
    ]
    cases = [{"text": text, "max_length": max_length} for text, max_length in odd]
    for name, _, queries, answers in meetings("val"):
        cases += [{"text": query, "max_length": 32} for query in queries[:2]]
        cases += [{"text": answer, "max_length": 128} for answer in answers[:3]]
        cases += [{"example": f"{name}-general-0", "max_length": length} for length in (16, 1024)]
    cases += [{"example": "TS3010a-general-0", "max_length": length} for length in (512, LONGEST)]
    return cases


def golden(folder, cases, inputs):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) == VOCABULARY, len(tokenizer)
    results = []
    for case in cases:
        text = inputs[case["example"]] if "example" in case else case["text"]
        ids = tokenizer(text, truncation=True, max_length=case["max_length"])["input_ids"]
        kept = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        results.append({"ids": ids, "kept": kept, "cleaned": tokenizer.clean_up_tokenization(kept)})
    return results


def main():
    goldens = {"cases": golden_cases()}
    assert len(goldens["cases"]) == 50, len(goldens["cases"])
    inputs = {
        f"{name}-general-0": f"{queries[0]}\n\n{transcript}" for name, transcript, queries, _ in meetings("val")
    }
    for name, train in (("tiny-led", train_led), ("tiny-bigbird-pegasus", train_bigbird_pegasus)):
        folder = ROOT / "weights" / name
        tokenizer = train()
        save(folder, *tokenizer)
        if name == "tiny-led":
            save(ROOT / "weights" / "small-led", *tokenizer)
            model, config = tokenizer
            save(ROOT / "weights" / "tiny-bart", model, {**config, "tokenizer_class": "BartTokenizer"}, longest=1024)
        goldens[name] = golden(folder, goldens["cases"], inputs)
    path = ROOT / "tests" / "goldens" / "tokenizers.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(goldens, ensure_ascii=False, separators=(",", ":")) + "\n")
    print(f"wrote the tokenizers and {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
