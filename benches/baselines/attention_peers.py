"""The PyTorch side of `wattention bench attention`: the same patterns by what is there for PyTorch.

    python benches/baselines/attention_peers.py --kind window --peer flex --length 4096 --pass forward --json
    python benches/baselines/attention_peers.py --list --device cuda

Peers, by kind:
    window        flex         FlexAttention, compiled, its mask the window and the global keys
                  sdpa-mask    scaled_dot_product_attention with that mask as a tensor
                  hf           LEDEncoderSelfAttention of transformers, its projections left out
                  flash-attn   flash_attn_func with window_size, where it is installed; global keys it has not
    block-sparse  flex         FlexAttention, compiled, its blocks BigBird's
                  sdpa-mask    scaled_dot_product_attention with that mask as a tensor
                  hf           bigbird_block_sparse_attention of transformers, its plan drawn anew every time
    dense         sdpa         scaled_dot_product_attention, the kernel that PyTorch picks
                  cudnn        the same by cuDNN, on a GPU
                  flash-attn   flash_attn_func, where it is installed

Inputs are uniform in [-1, 1), of the shapes that wattention has. Rows of global tokens are not computed by any side but
hf, which cannot leave them out. Times are of the forward pass without gradients, or of the backward pass alone; between
runs a buffer larger than the caches is written. A backward pass finds its inputs in memory as well.

On a GPU the seconds are those of CUDA events; what can be captured in a CUDA graph is, so that no launch is waited for
(`timing` says which it was). Energy is of the counter of NVML over two seconds of runs without the buffer; it needs
pynvml. What a peer cannot do is answered with {"absent": why}.

With --serve, every line on stdin is a JSON list of these arguments and every line on stdout the answer, after a first
one that says what is here.
"""

import argparse
import gc
import json
import statistics
import sys
import time

import torch
import transformers

from attention_patterns import DTYPES, PEERS, Absent, attention, usable
from joules import Spent

# At least, however long they take.
RUNS = 3
ENERGY_SECONDS = 2.0


def parse_arguments(words=None):
    parser = argparse.ArgumentParser(description="Times attention by PyTorch.")
    parser.add_argument("--kind", choices=list(PEERS), default="window")
    parser.add_argument("--peer", help="one of those of the kind (its first)")
    parser.add_argument("--pass", dest="direction", choices=["forward", "backward"], default="forward")
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--head-size", type=int, default=64)
    parser.add_argument("--window", type=int, default=512, help="keys to each side")
    parser.add_argument("--globals", type=int, default=1)
    parser.add_argument("--block-size", type=int, default=64)
    parser.add_argument("--random-blocks", type=int, default=3)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=list(DTYPES), default="fp32")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--warmup-seconds", type=float, default=0.2)
    parser.add_argument("--no-flush", action="store_true")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a line of text")
    parser.add_argument("--list", action="store_true", help="the peers that can be asked here")
    parser.add_argument("--serve", action="store_true", help="answer lines of arguments until stdin ends")
    args = parser.parse_args(words)
    args.peer = args.peer or PEERS[args.kind][0]
    if args.peer not in PEERS[args.kind]:
        parser.error(f"{args.kind} has no peer {args.peer}; there are {', '.join(PEERS[args.kind])}")
    return args


def largest_cache():
    """Bytes of the processor's last level of cache, 0 where the system does not tell."""
    sizes = []
    for index in range(8):
        try:
            text = open(f"/sys/devices/system/cpu/cpu0/cache/index{index}/size").read().strip()
        except OSError:
            continue
        sizes.append(int(text[:-1]) << 10 if text.endswith("K") else 0)
    return max(sizes, default=0)


def make_flush(args):
    if args.no_flush:
        return lambda: None
    floats = max(largest_cache(), 64 << 20) * 2 // 4
    source, target = (torch.ones(floats, device=args.device) for _ in range(2))
    return lambda: target.copy_(source)


def repeat(args, run, before, clock):
    """Seconds of `run`, which `clock` takes, for as long as was asked."""
    start, seconds = time.perf_counter(), []
    before()
    clock(run)
    while time.perf_counter() - start < args.warmup_seconds:
        before()
        clock(run)
    start = time.perf_counter()
    while len(seconds) < RUNS or time.perf_counter() - start < args.seconds:
        before()
        seconds.append(clock(run))
    return seconds


def host_clock(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def event_clock(run):
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) * 1e-3


def captured(run):
    """`run` as a CUDA graph; itself where it cannot be one."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            run()
    except RuntimeError:
        torch.cuda.synchronize()
        return run, "events"
    return graph.replay, "events around a CUDA graph"


def energy(run, on_gpu):
    """Joules of one run, or why they are not known."""
    if not on_gpu:
        return Spent(on_gpu).per(1, 0.0)
    spent, start, runs = Spent(on_gpu), time.perf_counter(), 0
    while time.perf_counter() - start < ENERGY_SECONDS:
        run()
        torch.cuda.synchronize()
        runs += 1
    return spent.per(runs, time.perf_counter() - start)


def measure(args):
    on_gpu = args.device == "cuda"
    if args.threads:
        torch.set_num_threads(args.threads)
    if on_gpu:
        torch.set_float32_matmul_precision("high" if args.precision == "tf32" else "highest")
    leaves, forward = attention(args)
    flush = make_flush(args)
    if args.direction == "forward":
        run = torch.no_grad()(forward)
    else:
        o = forward()
        d_o = torch.rand_like(o) * 2 - 1
        run = lambda: torch.autograd.grad(o, leaves, d_o, retain_graph=True)
    run()
    timing = "host"
    if on_gpu:
        run, timing = captured(run)
    seconds = repeat(args, run, flush, event_clock if on_gpu else host_clock)
    return {
        "kind": args.kind,
        "peer": args.peer,
        "pass": args.direction,
        "length": args.length,
        "batch_size": args.batch_size,
        "precision": args.precision,
        "device": args.device,
        "threads": torch.get_num_threads(),
        "timing": timing,
        "seconds": seconds,
        "median_s": statistics.median(seconds),
        "finite": bool(torch.isfinite(forward()).all()),
        **energy(run, on_gpu),
    }


def answer(words):
    """What is said to a line of arguments; a peer that cannot do it ends nothing."""
    try:
        return measure(parse_arguments(words))
    except Absent as why:
        return {"absent": str(why)}
    except (torch.OutOfMemoryError, MemoryError) as why:
        return {"absent": "out of memory: " + str(why).splitlines()[0]}
    except (RuntimeError, NotImplementedError, ValueError) as why:
        return {"absent": (str(why).strip() or type(why).__name__).splitlines()[0][:200]}


def here():
    found = {"torch": torch.__version__, "transformers": transformers.__version__}
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    found["peers"] = {
        device: {kind: [p for p in peers if usable(kind, p, device)] for kind, peers in PEERS.items()}
        for device in ("cpu", "cuda")
    }
    return found


def serve():
    print(json.dumps(here()), flush=True)
    for line in sys.stdin:
        result = answer(json.loads(line))
        # Before the other side is told to begin.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        print(json.dumps(result), flush=True)


def main():
    args = parse_arguments()
    transformers.utils.logging.set_verbosity_error()
    if args.serve:
        return serve()
    if args.list:
        for kind, peers in here()["peers"][args.device].items():
            print(f"{kind}: {', '.join(peers)}")
        return None
    result = answer(sys.argv[1:])
    if args.json:
        print(json.dumps(result))
    elif "absent" in result:
        print(f"{args.kind} {args.peer} {args.direction}: n/a: {result['absent']}")
    else:
        print(f"{args.kind} {args.peer} {args.direction}, {args.length} tokens: {1e3 * result['median_s']:.2f} ms")
    return None


if __name__ == "__main__":
    main()
