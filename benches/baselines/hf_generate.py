"""The PyTorch side of `wattention bench generate`: generate() of transformers on the CPU.

    python benches/baselines/hf_generate.py --num-beams 4 --max-source-length 1024 --threads 2 --json

The batch is synthetic: random ids, nothing padded, for LED global attention on the first token. The model is
randomly initialised, which changes no timing; no answer ends before its last token. Seconds are wall time of
generate() after the warm-up runs; first_token_seconds are those of one token, measured in turn with them, and a step
is the difference over the other tokens. Attention and cache are what transformers picks by default; --precision bf16 stores and computes in bfloat16.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from hf_step import LED_BASE, make_batch, peak_resident_bytes


def parse_arguments():
    parser = argparse.ArgumentParser(description="Times generate() of transformers.")
    parser.add_argument("--model", default=str(LED_BASE), help="directory with a config.json (default: LED-base)")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--max-source-length", type=int, default=1024)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--num-beams", type=int, default=1)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=5, help="timed runs")
    parser.add_argument("--warmup", type=int, default=1, help="runs before the timed ones")
    parser.add_argument("--compile", action="store_true", help="the model's forward pass through torch.compile")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a line of text")
    args = parser.parse_args()
    args.device, args.max_target_length = "cpu", 1
    return args


def main():
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    transformers.utils.logging.set_verbosity_error()
    config = AutoConfig.from_pretrained(args.model)
    dtype = torch.bfloat16 if args.precision == "bf16" else torch.float32
    model = AutoModelForSeq2SeqLM.from_config(config, dtype=dtype).eval()
    model.generation_config.eos_token_id = None
    if args.compile:
        model.forward = torch.compile(model.forward)
    batch = {name: value for name, value in make_batch(config, args).items() if name != "labels"}

    def run(tokens):
        start = time.perf_counter()
        out = model.generate(**batch, num_beams=args.num_beams, do_sample=False, max_new_tokens=tokens)
        seconds = time.perf_counter() - start
        assert out.shape == (args.batch_size, tokens + 1), out.shape
        return seconds

    for _ in range(args.warmup):
        run(1), run(args.max_new_tokens)
    first, seconds = [], []
    for _ in range(args.repeat):
        first.append(run(1))
        seconds.append(run(args.max_new_tokens))
    steps = [(whole - one) / (args.max_new_tokens - 1) for whole, one in zip(seconds, first)]
    result = {
        "baseline": "transformers",
        "model": Path(args.model).resolve().name,
        "attention": config._attn_implementation,
        "compiled": args.compile,
        "precision": args.precision,
        "batch_size": args.batch_size,
        "max_source_length": args.max_source_length,
        "max_new_tokens": args.max_new_tokens,
        "num_beams": args.num_beams,
        "threads": torch.get_num_threads(),
        "seconds": seconds,
        "first_token_seconds": first,
        "step_seconds": steps,
        "step_median_s": float(np.median(steps)),
        "median_s": float(np.median(seconds)),
        "peak_bytes": peak_resident_bytes(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    if args.json:
        print(json.dumps(result))
    else:
        print(
            f"{result['model']}, batch {args.batch_size}, {args.num_beams} beams: {result['median_s']:.3f} s, "
            f"{1e3 * result['step_median_s']:.2f} ms a step"
        )


if __name__ == "__main__":
    main()
