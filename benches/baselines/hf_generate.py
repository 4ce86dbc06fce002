"""The PyTorch side of `wattention bench generate`: generate() of transformers.

    python benches/baselines/hf_generate.py --num-beams 4 --max-source-length 1024 --threads 2 --json

The batch is synthetic: random ids, nothing padded, for LED global attention on the first token. A folder without
weights is a model of random ones, which changes no timing; no answer ends before its last token. Seconds are wall time
of generate() after the warm-up runs; first_token_seconds are those of one token, measured in turn with them, and a step
is the difference over the other tokens. Attention and cache are what transformers picks by default; --precision bf16
stores and computes in bfloat16.
"""

import argparse
import json
from pathlib import Path

import torch
import transformers
from transformers import AutoConfig, AutoModelForSeq2SeqLM

import decoding_times
from hf_step import LED_BASE, make_batch, peak_resident_bytes


def parse_arguments():
    parser = argparse.ArgumentParser(description="Times generate() of transformers.")
    parser.add_argument("--model", default=str(LED_BASE), help="directory with a config.json (default: LED-base)")
    parser.add_argument("--compile", action="store_true", help="the model's forward pass through torch.compile")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    decoding_times.add_arguments(parser, ["fp32", "bf16"])
    args = parser.parse_args()
    args.max_target_length = 1
    return args


def load(args, config):
    dtype = torch.bfloat16 if args.precision == "bf16" else torch.float32
    if (Path(args.model) / "model.safetensors").is_file():
        return AutoModelForSeq2SeqLM.from_pretrained(args.model, dtype=dtype)
    return AutoModelForSeq2SeqLM.from_config(config, dtype=dtype)


def main():
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    config = AutoConfig.from_pretrained(args.model)
    on_gpu = args.device == "cuda"
    if on_gpu:
        torch.set_float32_matmul_precision("highest")
    model = load(args, config).eval().to(args.device)
    model.generation_config.eos_token_id = None
    if args.compile:
        model.forward = torch.compile(model.forward)
    batch = {name: value for name, value in make_batch(config, args).items() if name != "labels"}

    def generate(tokens):
        out = model.generate(**batch, num_beams=args.num_beams, do_sample=False, max_new_tokens=tokens)
        if on_gpu:
            torch.cuda.synchronize()
        return [len(row) - 1 for row in out]

    result = {
        "baseline": "transformers",
        "model": Path(args.model).resolve().name,
        "attention": config._attn_implementation,
        "compiled": args.compile,
        "threads": torch.get_num_threads(),
        **decoding_times.timed(generate, args),
        "peak_bytes": torch.cuda.max_memory_allocated() if on_gpu else peak_resident_bytes(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    print(json.dumps(result) if args.json else decoding_times.line(result))


if __name__ == "__main__":
    main()
