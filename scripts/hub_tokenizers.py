"""Regenerates tests/goldens/hub_tokenizers/: tokenizers in the files of the hub, and what transformers makes of them.

    pip install transformers==5.17.0 tokenizers==0.23.3 sentencepiece==0.2.3 protobuf
    python scripts/hub_tokenizers.py

Small tokenizers trained on weights/data/qmsum-slice, each in the files that its model has on the hub and without a
tokenizer.json:

led                  byte-level BPE: vocab.json, merges.txt, and the special_tokens_map.json of allenai's LED
led_bare             the same without special_tokens_map.json (only its ids; the folder is led)
led_whole            the same as a tokenizer.json
bigbird_pegasus      spiece.model with [CLS], [SEP] and [MASK], and google's tokenizer_config.json: offset 0
big_bird_whole       the same as the tokenizer.json that google's models have on the hub
pegasus              spiece.model with <n> as a symbol of its own, and the offset of plain Pegasus, 103

cases.json holds `cases`, a text and its ids by each tokenizer, special tokens included. LED's are those of
AutoTokenizer. transformers 5.17 has no tokenizer of its own for a BigBird-Pegasus without tokenizer.json; its
PegasusConverter made the one that google's models have on the hub, and makes the ids here.

folders.json holds what AutoTokenizer makes of many folders: see scripts/hub_tokenizer_folders.py.
"""

import json
import os
import random
import shutil
import tempfile
import unicodedata
from pathlib import Path
from types import SimpleNamespace

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import sentencepiece
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import PegasusConverter

import hub_tokenizer_folders
import tiny_tokenizers

OUT = Path(__file__).resolve().parent.parent / "tests" / "goldens" / "hub_tokenizers"
SPACES = "\t\n\r\u00a0\u2003\u3000\u2028\u200b"
DROPPED = "\x01\x7f\u00ad"
TEXTS = [
    "", " ", "  ", "\n", "\t", "a", " a", "a ", "  a  b  ", "Hello world", "hello  world", "one\ntwo\r\nthree\rfour",
    "tab\tand\u00a0no-break\u3000wide\u2003space", "zero\u200bwidth\u200djoin", "soft\u00adhyphen", "nul\x00inside",
    "\x00", "bell\x07 del\x7f esc\x1b[2J", "\ufeffbom first", "caf\u00e9 cafe\u0301 na\u00efve nai\u0308ve",
    "\u0301 alone", "e\u0301\u0323\u0308 stacked", "\u1100\u1161\u11a8 \uac01", "\ufb01nal o\ufb03ce \u2126 \u212b",
    "\uff28\uff45\uff4c\uff4c\uff4f", "\u2460 \u00bd \u00b2", "\U0001f600", "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\U0001f1eb\U0001f1f7 \U0001f44d\U0001f3fd", "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645",
    "\u05e9\u05dc\u05d5\u05dd \u202eRTL\u202c", "\u4f60\u597d\uff0c\u4e16\u754c\u3002", "\u3053\u3093\u306b\u3061\u306f",
    "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "\u0928\u092e\u0938\u094d\u0924\u0947", "<s>", "</s>", "<pad>", "<unk>", "<mask>",
    "a<s>b", "a <s> b", " <mask>", "x <mask> y", "x  <mask>  y", "x<mask>y", "<mask><mask>", "</s></s>", "< s>", "<S>",
    "[CLS] a [SEP]", "[MASK]", "a[MASK]b", "[mask]", "<mask_1>", "<mask_2> b", "<unk_2>", "a <unk_102> b", "<unk_103>",
    "<n>", "a<n>b", "a <n> b", "\u2581", "\u2581a", "a\u2581b", "a \u2581 b", "\u2581\u2581", "_", "__init__",
    "don't can't I'm you've he's we'll they'd", "'s", "' s", "it 's", "DON'T", "1234567890", "3.14159", "1,000,000",
    "$5.00 (50%)", "http://a.b/c?d=e&f=g#h", "user@example.org", "C:\\path\\file", "a/b/c", "...", "!?!?", "--", "\u2014",
    "\u201cquoted\u201d \u2018single\u2019", "a" * 300, "ab" * 400, "." * 100, " " * 50 + "x", "x" + " " * 50, "\n" * 20 + "x",
    "word " * 40, "\ufffd", "\ue000 private", "\U000e0041 tag", "\U0010ffff last", "\u00df\u1e9e \u0130\u0131",
    "Project Manager: Okay , so um .", "{disfmarker}", "\u0000\u0001\u0002", "a\u0300a\u0301a\u0302a\u0303a\u0304",
]
PIECES = (
    "the|meeting|remote control| |  |\n|\t|.|,|'s|42|caf\u00e9|e\u0301|\ufb01|\U0001f600|\u4f60|\u0645|<s>|</s>|<mask>|<unk>|"
    "[MASK]|<n>|\u2581|\u200b|\u00a0|\u3000|\r\n|A|zz|\u00ad|-"
).split("|")
RANDOM = 220


def texts():
    rng = random.Random(3)
    drawn = ("".join(rng.choice(PIECES) for _ in range(rng.randrange(1, 14))) for _ in range(RANDOM))
    return [*TEXTS, *drawn]


def train_led(out):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=599,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(tiny_tokenizers.training_texts(), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    vocabulary = {**model["vocab"], "<mask>": len(model["vocab"])}
    out.mkdir(parents=True, exist_ok=True)
    (out / "vocab.json").write_text(json.dumps(vocabulary))
    (out / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in model["merges"]))
    (out / "tokenizer_config.json").write_text('{"model_max_length": 16384}')
    mask = {"content": "<mask>", "single_word": False, "lstrip": True, "rstrip": False, "normalized": False}
    roles = {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "sep": "</s>", "pad": "<pad>", "cls": "<s>", "mask": mask}
    named = {f"{role}_token": token for role, token in roles.items()}
    (out / "special_tokens_map.json").write_text(json.dumps(named))


def normalization_rules():
    """A few hundred of the rules of nmt_nfkc, whose whole map would be 240 kB of every model."""
    rules = [(c, " ") for c in SPACES] + [(c, "") for c in DROPPED]
    blocks = [range(0xA1, 0x180), range(0xFB00, 0xFB07), range(0xFF01, 0xFF5F), range(0x2150, 0x2190)]
    singles = [chr(c) for block in blocks for c in block if chr(c) not in DROPPED] + list("\u2126\u212a\u212b\u2026\u2460")
    pairs = [base + mark for base in "aeiouAEIOUcn" for mark in "\u0301\u0300\u0308\u0303\u0327"]
    for text in dict.fromkeys(singles + pairs):
        normal = unicodedata.normalize("NFKC", text)
        if normal != text and len(normal) <= max(len(text), 3):
            rules.append((text, normal))
    points = lambda text: " ".join(f"{ord(c):X}" for c in text)
    return "".join(f"{points(source)}\t{points(target)}\n" for source, target in rules)


def train_unigram(to, prefix, vocabulary, **options):
    """Writes a SentencePiece model of `vocabulary` pieces to the file `to`; `prefix` is the name that stands in it."""
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        lines = [line for text in tiny_tokenizers.training_texts() for line in text.split("\n")]
        Path(folder, "rules.tsv").write_text(normalization_rules())
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines[:6000]),
            model_prefix=f"{folder}/{prefix}",
            normalization_rule_tsv=f"{folder}/rules.tsv",
            vocab_size=vocabulary,
            model_type="unigram",
            character_coverage=0.9995,
            num_threads=1,
            minloglevel=2,
            **options,
        )
        model = Path(folder, f"{prefix}.model").read_bytes()
        # The folder's own name stands in the model.
        to.write_bytes(model.replace(folder.encode(), b"x" * len(folder)))


def train_pieces(out, config, **options):
    train_unigram(out / "spiece.model", "spiece", 500, pad_id=0, eos_id=1, **options)
    (out / "tokenizer_config.json").write_text(json.dumps(config))


def converted(folder, offset, mask_sent, mask, mask_id, **special):
    slow = SimpleNamespace(
        vocab_file=str(folder / "spiece.model"),
        pad_token="<pad>",
        eos_token="</s>",
        eos_token_id=1,
        offset=offset,
        mask_token_sent=mask_sent,
        mask_token=mask,
        mask_token_id=mask_id,
    )
    fast = PegasusConverter(slow).converted()
    return PreTrainedTokenizerFast(
        tokenizer_object=fast, eos_token="</s>", unk_token="<unk>", pad_token="<pad>", mask_token=mask, **special
    )


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    train_led(OUT / "led")
    names = {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "sep": "[SEP]", "pad": "<pad>", "cls": "[CLS]", "mask": "[MASK]"}
    config = {
        "tokenizer_class": "PegasusTokenizer",
        "offset": 0,
        "mask_token_sent": None,
        "additional_special_tokens": [],
        "model_max_length": 4096,
        **{f"{role}_token": token for role, token in names.items()},
    }
    train_pieces(OUT / "bigbird_pegasus", config, bos_id=2, unk_id=3, control_symbols="[CLS],[SEP],[MASK]")
    plain = {"tokenizer_class": "PegasusTokenizer", "offset": 103}
    train_pieces(OUT / "pegasus", plain, bos_id=-1, unk_id=2, user_defined_symbols="<n>")

    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder)
        for name in ("vocab.json", "merges.txt"):
            shutil.copy(OUT / "led" / name, bare)
        (bare / "config.json").write_text('{"model_type": "led"}')
        led_bare = AutoTokenizer.from_pretrained(bare)
        for name in ("special_tokens_map.json", "tokenizer_config.json"):
            shutil.copy(OUT / "led" / name, bare)
        led = AutoTokenizer.from_pretrained(bare)
    special = dict(bos_token="<s>", sep_token="[SEP]", cls_token="[CLS]")
    kept = ["<mask_1>", *(f"<unk_{i}>" for i in range(2, 103))]
    tokenizers = {
        "led": led,
        "led_bare": led_bare,
        "bigbird_pegasus": converted(OUT / "bigbird_pegasus", 0, None, "[MASK]", 6, **special),
        "pegasus": converted(OUT / "pegasus", 103, "<mask_1>", "<mask_2>", 3, additional_special_tokens=kept),
    }
    cases = [
        {"text": text, **{name: tokenizer(text)["input_ids"] for name, tokenizer in tokenizers.items()}}
        for text in texts()
    ]
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (OUT / "cases.json").write_text(f'{{"cases":[\n{lines}\n]}}\n')
    for folder, tokenizer in (("led_whole", led_bare), ("big_bird_whole", tokenizers["bigbird_pegasus"])):
        (OUT / folder).mkdir()
        tokenizer.backend_tokenizer.save(str(OUT / folder / "tokenizer.json"), pretty=False)
    folders = json.dumps(hub_tokenizer_folders.goldens(OUT), separators=(",", ":"))
    (OUT / "folders.json").write_text(folders.replace('{"name"', '\n{"name"') + "\n")
    for path in sorted(OUT.rglob("*")):
        if path.is_file():
            print(f"{path.relative_to(OUT)}: {path.stat().st_size} bytes")
    print(f"{len(cases)} cases")


if __name__ == "__main__":
    main()
