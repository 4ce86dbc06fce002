"""A model of random weights for all sides of a comparison of generation, in HF's layout and in that of CTranslate2.

    python benches/baselines/ct2_model.py --model benches/baselines/bart-base --output-dir FOLDER

FOLDER then holds `hf` (config.json, model.safetensors), `ctranslate2` (the same weights in float32, from CTranslate2's
own converter) and for every size B of a batch `inputs-B.safetensors` (input_ids, random, nothing padded). Tokens have their numbers for names: no
tokenizer is needed. stdout is a JSON object: CTranslate2's version, and the kinds of arithmetic that it has on this
processor; or `left_out`, why it takes no such model.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForSeq2SeqLM

# What CTranslate2's converters read of a config, where transformers no longer keeps it.
NORMS = {
    "bart": {"normalize_before": False, "normalize_embedding": True},
    "pegasus": {"normalize_before": True, "normalize_embedding": False},
}


class Numbers:
    """Stands where a converter wants a tokenizer: every token is the number it has."""

    def __init__(self, config):
        self.size = config.vocab_size
        self.pad_token, self.eos_token = str(config.pad_token_id), str(config.eos_token_id)
        # Pegasus has none.
        self.bos_token = str(getattr(config, "bos_token_id", config.pad_token_id))
        # BART's number; Pegasus has a higher one, and no input of a comparison has either.
        self.unk_token = "3"

    def get_vocab(self):
        return {str(number): number for number in range(self.size)}

    def convert_ids_to_tokens(self, number):
        return str(number)


def convert(folder, output):
    from ctranslate2.converters import TransformersConverter

    class Converter(TransformersConverter):
        def load_model(self, model_class, name, config, **kwargs):
            for key, value in NORMS[config.model_type].items():
                if not hasattr(config, key):
                    setattr(config, key, value)
            return super().load_model(model_class, name, config=config, **kwargs)

        def load_tokenizer(self, tokenizer_class, name, **kwargs):
            return Numbers(AutoConfig.from_pretrained(name))

    Converter(str(folder)).convert(str(output))


def found(folder, output):
    """The version of CTranslate2 and what it computes in, once it has the model; or why it has not."""
    try:
        import ctranslate2
    except ImportError:
        return {"left_out": "this Python has no ctranslate2"}
    family = AutoConfig.from_pretrained(folder).model_type
    if family not in NORMS:
        return {"left_out": f"CTranslate2 converts no model of type {family}"}
    convert(folder, output)
    kinds = sorted(ctranslate2.get_supported_compute_types("cpu"))
    return {"ctranslate2": ctranslate2.__version__, "compute_types": kinds}


def main():
    parser = argparse.ArgumentParser(description="A random model for every side.")
    parser.add_argument("--model", type=Path, required=True, help="folder with a config.json")
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--batch-size", type=int, nargs="+", default=[1])
    parser.add_argument("--max-source-length", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    config = AutoConfig.from_pretrained(args.model)
    folder = args.output_dir / "hf"
    AutoModelForSeq2SeqLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    shutil.copyfile(args.model / "config.json", folder / "config.json")
    for batch_size in args.batch_size:
        ids = torch.randint(4, config.vocab_size, (batch_size, args.max_source_length))
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        save_file(batch, args.output_dir / f"inputs-{batch_size}.safetensors")
    print(json.dumps(found(folder, args.output_dir / "ctranslate2")))


if __name__ == "__main__":
    main()
