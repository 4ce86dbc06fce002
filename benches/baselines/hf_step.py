"""The PyTorch side of `wattention bench step`: one model step by transformers, on the CPU or on a GPU.

    python benches/baselines/hf_step.py --mode forward --max-source-length 1024 --threads 2 --json
    python benches/baselines/hf_step.py --device cuda --precision bf16 --mode train --max-source-length 16384

Modes:
    encoder           encoder only, no gradients
    forward           encoder, decoder, logits and loss, no gradients
    forward-backward  the same in train mode (the config's dropout applies) and every gradient
    train             that, gradient clipping at norm 1 and a fused torch.optim.AdamW step, as the HF Trainer does

The batch is synthetic: random ids, nothing padded, for LED global attention on the first token, random labels.
The model is randomly initialised, which changes no timing. Attention is what transformers picks by default. The folder
of --model decides between LED and BigBird-Pegasus. --compile sends the model, or its encoder, through torch.compile;
the warm-up steps compile it.
Seconds are wall time per step after the warm-up steps; cpu_s is the median processor time of all threads, for
machines that do other work meanwhile. peak_bytes is VmHWM, the largest resident set of the process since its
start, with interpreter, libraries and weights; run one configuration per process.

On a GPU the seconds end when the GPU has finished (torch.cuda.synchronize), and peak_bytes is what PyTorch's
allocator had given out at most (torch.cuda.max_memory_allocated). Precisions, of which the CPU has no tf32:

    fp32    float32, products as IEEE says
    tf32    float32, products on tensor cores (torch.set_float32_matmul_precision("high"))
    bf16    weights, activations, gradients and the optimizer's state in bfloat16, without autocast

energy_j is of one sample, by the counter of NVML over all timed steps; it needs pynvml, and a second of them at least.

With --serve, every line on stdin is a JSON list of these arguments and every line on stdout the answer, after a first
one that says what is here: one process for many configurations, since importing takes longer than most steps.
"""

import argparse
import gc
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from joules import Spent

LED_BASE = Path(__file__).resolve().parent / "led-base"


def parse_arguments(words=None):
    parser = argparse.ArgumentParser(description="Times one model step of transformers.")
    parser.add_argument("--mode", choices=["encoder", "forward", "forward-backward", "train"], default="forward")
    parser.add_argument("--model", default=str(LED_BASE), help="directory with a config.json (default: LED-base)")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--max-source-length", type=int, default=1024)
    parser.add_argument("--max-target-length", type=int, default=128)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["fp32", "tf32", "bf16"], default="fp32", help="cpu: fp32 or bf16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=5, help="timed steps")
    parser.add_argument("--warmup", type=int, default=1, help="steps before the timed ones")
    parser.add_argument("--compile", action="store_true", help="through torch.compile")
    parser.add_argument("--dropout", type=float, help="instead of the config's")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a line of text")
    parser.add_argument("--serve", action="store_true", help="answer lines of arguments until stdin ends")
    args = parser.parse_args(words)
    if args.device == "cpu" and args.precision == "tf32":
        parser.error("on the CPU the precision is fp32 or bf16")
    return args


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
    return {name: value.to(args.device) for name, value in batch.items()}


def make_step(model, batch, args):
    mode, compiled = args.mode, torch.compile if args.compile else lambda module: module
    if mode == "encoder":
        source = {name: value for name, value in batch.items() if name != "labels"}
        encoder = compiled(model.get_encoder())
        return torch.no_grad()(lambda: encoder(**source))
    run = compiled(model)
    if mode == "forward":
        return torch.no_grad()(lambda: run(**batch).loss)

    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, fused=True)

    def step():
        optimizer.zero_grad()
        run(**batch).loss.backward()
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


def measure(args):
    on_gpu = args.device == "cuda"
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    transformers.utils.logging.set_verbosity_error()
    if on_gpu:
        torch.set_float32_matmul_precision("high" if args.precision == "tf32" else "highest")
        # The statistics are there only once CUDA is.
        torch.cuda.init()
        torch.cuda.reset_peak_memory_stats()

    config = AutoConfig.from_pretrained(args.model)
    if args.dropout is not None:
        config.dropout = args.dropout
    with torch.device(args.device):
        dtype = torch.bfloat16 if args.precision == "bf16" else torch.float32
        model = AutoModelForSeq2SeqLM.from_config(config, dtype=dtype)
    model.train(args.mode in ("forward-backward", "train"))
    step = make_step(model, make_batch(config, args), args)

    def finished():
        if on_gpu:
            torch.cuda.synchronize()

    for _ in range(args.warmup):
        step()
    finished()
    seconds, cpu_seconds = [], []
    spent = Spent(on_gpu)
    for _ in range(args.repeat):
        start, cpu_start = time.perf_counter(), time.process_time()
        step()
        finished()
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)

    return {
        "baseline": "transformers",
        "model": Path(args.model).resolve().name,
        "mode": args.mode,
        "device": args.device,
        "precision": args.precision,
        "attention": config._attn_implementation,
        "compiled": args.compile,
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
        **spent.per(args.repeat * args.batch_size, sum(seconds)),
        "samples_per_s": args.batch_size / float(np.median(seconds)),
        "peak_bytes": torch.cuda.max_memory_allocated() if on_gpu else peak_resident_bytes(),
        "peak_bytes_is": "torch.cuda.max_memory_allocated" if on_gpu else "VmHWM of the whole process",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def answer(words):
    """What --serve says to a line. A step that does not fit ends nothing; after other errors CUDA may be unusable."""
    try:
        return measure(parse_arguments(words))
    except torch.OutOfMemoryError as why:
        return {"failed": str(why).splitlines()[0]}


def serve():
    here = {"torch": torch.__version__, "transformers": transformers.__version__}
    if torch.cuda.is_available():
        here["gpu"] = torch.cuda.get_device_name()
    print(json.dumps(here), flush=True)
    for line in sys.stdin:
        result = answer(json.loads(line))
        # Before the other side is told to begin.
        gc.collect()
        torch.cuda.empty_cache()
        print(json.dumps(result), flush=True)


def main():
    args = parse_arguments()
    if args.serve:
        serve()
        return
    result = measure(args)
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
