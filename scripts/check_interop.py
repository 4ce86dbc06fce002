"""Checks that transformers loads a model directory and computes the logits another engine computed.

    python scripts/check_interop.py MODEL_DIR INPUTS EXPECTED [--tolerance 1e-5]

INPUTS holds input_ids, attention_mask and labels or decoder_input_ids, and global_attention_mask if there is
one (i64); EXPECTED holds logits (f32), computed in eval mode from the same directory. The model must load without
missing, unexpected or misshapen weights. Exits 0 and prints the relative L2 error, or exits 1 and says what is
wrong.
"""

import argparse
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM


def parse_arguments():
    parser = argparse.ArgumentParser(description="Checks a saved model against transformers.")
    parser.add_argument("model", type=Path, help="directory with config.json and model.safetensors")
    parser.add_argument("inputs", type=Path, help="safetensors file with the batch")
    parser.add_argument("expected", type=Path, help="safetensors file with logits")
    parser.add_argument("--tolerance", type=float, default=1e-5, help="largest relative L2 error (1e-5)")
    return parser.parse_args()


def load_model(folder):
    model, report = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    problems = {kind: sorted(map(str, names)) for kind, names in report.items() if names}
    if problems:
        sys.exit(f"{folder}: transformers reports {problems}")
    return model.eval()


def main():
    args = parse_arguments()
    for path in (args.model / "config.json", args.inputs, args.expected):
        if not path.is_file():
            sys.exit(f"{path} is missing")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()

    model = load_model(args.model)
    expected = load_file(args.expected)["logits"].double()
    with torch.no_grad():
        logits = model(**load_file(args.inputs)).logits.double()
    if logits.shape != expected.shape:
        sys.exit(f"logits are {list(logits.shape)} in transformers, {list(expected.shape)} in {args.expected}")
    error = ((logits - expected).norm() / expected.norm()).item()
    # Written so that NaN fails.
    if not error <= args.tolerance:
        sys.exit(f"logits differ from transformers by {error:.2e} relative L2, above {args.tolerance:.0e}")
    print(f"logits agree with transformers {transformers.__version__}: {error:.2e} relative L2")


if __name__ == "__main__":
    main()
