"""The PyTorch side of `wattention bench step`: one model step by transformers on the CPU, float32.

    python benches/baselines/led_step.py --mode forward --max-source-length 1024 --threads 2 --json

Modes:
    encoder           encoder only, no gradients
    forward           encoder, decoder, logits and loss, no gradients
    forward-backward  the same in train mode (the config's dropout applies) and every gradient
    train             that, gradient clipping at norm 1 and a fused torch.optim.AdamW step, as the HF Trainer does

The batch is synthetic: random ids, nothing padded, for LED global attention on the first token, random labels.
The model is randomly initialised, which changes no timing. Attention is what transformers picks by default.
Seconds are wall time per step after the warm-up steps; cpu_s is the median processor time of all threads, for
machines that do other work meanwhile. peak_bytes is VmHWM, the largest resident set of the process since its
start, with interpreter, libraries and weights; run one configuration per process.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoModelForSeq2SeqLM

LED_BASE = Path(__file__).resolve().parent / "led-base"


def parse_arguments():
    parser = argparse.ArgumentParser(description="Times one model step of transformers on the CPU, float32.")
    parser.add_argument("--mode", choices=["encoder", "forward", "forward-backward", "train"], default="forward")
    parser.add_argument("--model", default=str(LED_BASE), help="directory with a config.json (default: LED-base)")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--max-source-length", type=int, default=1024)
    parser.add_argument("--max-target-length", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=5, help="timed steps")
    parser.add_argument("--warmup", type=int, default=1, help="steps before the timed ones")
    parser.add_argument("--dropout", type=float, help="instead of the config's")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a line of text")
    return parser.parse_args()


def make_batch(config, args):
    shape = (args.batch_size, args.max_source_length)
    batch = {
        "input_ids": torch.randint(4, config.vocab_size, shape),
        "attention_mask": torch.ones(shape, dtype=torch.long),
        "labels": torch.randint(4, config.vocab_size, (args.batch_size, args.max_target_length)),
    }
    if config.model_type == "led":
        batch["global_attention_mask"] = torch.zeros(shape, dtype=torch.long)
        batch["global_attention_mask"][:, 0] = 1
    return batch


def make_step(model, batch, mode):
    if mode == "encoder":
        source = {name: value for name, value in batch.items() if name != "labels"}
        return torch.no_grad()(lambda: model.get_encoder()(**source))
    if mode == "forward":
        return torch.no_grad()(lambda: model(**batch).loss)

    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, fused=True)

    def step():
        optimizer.zero_grad()
        model(**batch).loss.backward()
        if mode == "train":
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

    return step


def peak_resident_bytes():
    """VmHWM and not ru_maxrss: the latter survives exec and may be the parent's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def main():
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    transformers.utils.logging.set_verbosity_error()

    config = AutoConfig.from_pretrained(args.model)
    if args.dropout is not None:
        config.dropout = args.dropout
    model = AutoModelForSeq2SeqLM.from_config(config, dtype=torch.float32)
    model.train(args.mode in ("forward-backward", "train"))
    step = make_step(model, make_batch(config, args), args.mode)

    for _ in range(args.warmup):
        step()
    seconds, cpu_seconds = [], []
    for _ in range(args.repeat):
        start, cpu_start = time.perf_counter(), time.process_time()
        step()
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)

    result = {
        "baseline": "transformers",
        "model": Path(args.model).resolve().name,
        "mode": args.mode,
        "device": "cpu",
        "precision": "fp32",
        "attention": config._attn_implementation,
        "batch_size": args.batch_size,
        "max_source_length": args.max_source_length,
        "max_target_length": args.max_target_length,
        "threads": torch.get_num_threads(),
        "warmup": args.warmup,
        "repeat": args.repeat,
        "seconds": seconds,
        "min_s": min(seconds),
        "p20_s": float(np.percentile(seconds, 20)),
        "median_s": float(np.median(seconds)),
        "p80_s": float(np.percentile(seconds, 80)),
        "cpu_s": float(np.median(cpu_seconds)),
        "samples_per_s": args.batch_size / float(np.median(seconds)),
        "peak_bytes": peak_resident_bytes(),
        "peak_bytes_is": "VmHWM of the whole process",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    if args.json:
        print(json.dumps(result))
    else:
        print(
            f"{result['model']} {args.mode}, batch {args.batch_size}, {args.max_source_length} tokens: "
            f"median {result['median_s']:.3f} s (p20 {result['p20_s']:.3f}, p80 {result['p80_s']:.3f}), "
            f"peak {(result['peak_bytes'] or 0) / 2**30:.2f} GiB"
        )


if __name__ == "__main__":
    main()
