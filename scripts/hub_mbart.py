"""Regenerates tests/goldens/hub_tokenizers/mbart/: mBART's tokenizer in the files of the hub, and what AutoTokenizer makes of it.

    pip install transformers==5.17.0 tokenizers==0.23.3 sentencepiece==0.2.3 protobuf
    python scripts/hub_mbart.py

Writes `sentencepiece.bpe.model`, a small one trained on weights/data/qmsum-slice whose first pieces are those of
fairseq, and `cases.json`: `texts`, and `folders`, each with the `tokenizer_config.json` that lies beside the model, the
ids of every text as it is read (`sources`) and of the first few as they are written (`targets`).
"""

import json
import os
import tempfile
from pathlib import Path

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from transformers import AutoTokenizer

from hub_tokenizers import TEXTS, train_unigram

OUT = Path(__file__).resolve().parent.parent / "tests" / "goldens" / "hub_tokenizers" / "mbart"
MODEL = "sentencepiece.bpe.model"
TARGETS = 24
TEXTS = [*TEXTS, "de_DE", "The committee met in en_XX.", "ro_RO</s>", "a de_DE b", "sl_SI <mask> x"]
FOLDERS = {
    "mbart": {},
    "mbart_named": {"tokenizer_class": "MBartTokenizer"},
    "mbart_german_to_romanian": {"tokenizer_class": "MBartTokenizer", "src_lang": "de_DE", "tgt_lang": "ro_RO"},
    "mbart50": {"tokenizer_class": "MBart50Tokenizer", "src_lang": None, "tgt_lang": None},
    "mbart50_french_to_english": {"tokenizer_class": "MBart50TokenizerFast", "src_lang": "fr_XX", "tgt_lang": "en_XX"},
}


def folder_of(out, settings, to):
    to.mkdir()
    (to / MODEL).write_bytes((out / MODEL).read_bytes())
    (to / "config.json").write_text('{"model_type": "mbart"}')
    (to / "tokenizer_config.json").write_text(json.dumps(settings))
    return to


def main():
    train_unigram(OUT / MODEL, "pieces", 400)
    folders = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, settings in FOLDERS.items():
            tokenizer = AutoTokenizer.from_pretrained(folder_of(OUT, settings, Path(scratch, name)))
            sources = [tokenizer(text)["input_ids"] for text in TEXTS]
            targets = [tokenizer(text_target=text)["input_ids"] for text in TEXTS[:TARGETS]]
            folders.append({"name": name, "settings": settings, "sources": sources, "targets": targets})
    cases = {"texts": TEXTS, "folders": folders}
    (OUT / "cases.json").write_text(json.dumps(cases, separators=(",", ":")) + "\n")
    print(f"{len(TEXTS)} texts in {len(folders)} folders")


if __name__ == "__main__":
    main()
