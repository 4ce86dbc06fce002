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
import importlib.util
import json
import sys
import time

import torch
import torch.nn.functional as F
import transformers

PEERS = {
    "window": ["flex", "sdpa-mask", "hf", "flash-attn"],
    "block-sparse": ["flex", "sdpa-mask", "hf"],
    "dense": ["sdpa", "cudnn", "flash-attn"],
}
# At least, however long they take.
RUNS = 3
ENERGY_SECONDS = 2.0
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}


class Absent(Exception):
    """Why a peer has no time."""


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


def installed(name):
    return importlib.util.find_spec(name) is not None


def usable(kind, peer, device):
    """Whether a peer can be asked for at all."""
    if peer == "flash-attn":
        return device == "cuda" and installed("flash_attn")
    return peer != "cudnn" or device == "cuda"


def plan(args):
    """BigBird's random blocks [H, n - 2, R] as transformers draws them in training, layer 0."""
    import numpy as np

    module = bigbird(args)
    np.random.seed(0)
    n, k, r = args.length // args.block_size, args.block_size, args.random_blocks
    if args.length in (1024, 3072, 4096):
        most = module.max_seqlen
        draw = lambda: module._bigbird_block_rand_mask(most, most, k, k, r, last_idx=1024)[: n - 2]
        return np.stack([draw() for _ in range(args.heads)])
    length, blocks = module._get_rand_attn_plan(args.length, k, r)
    drawn = module._bigbird_block_rand_mask_with_head(args.length, args.length, k, k, args.heads, length, blocks)
    return np.stack(drawn)


def bigbird(args):
    from transformers.models.bigbird_pegasus import modeling_bigbird_pegasus as source

    config = transformers.BigBirdPegasusConfig(
        d_model=args.heads * args.head_size,
        encoder_attention_heads=args.heads,
        block_size=args.block_size,
        num_random_blocks=args.random_blocks,
        max_position_embeddings=4096,
    )
    # In training the blocks are drawn; otherwise they would all be the first.
    return source.BigBirdPegasusBlockSparseAttention(config, seed=0).train()


def seen_blocks(args):
    """Which key blocks each query block sees, [H, n, n] booleans."""
    n, drawn = args.length // args.block_size, torch.as_tensor(plan(args)).long()
    seen = torch.zeros(args.heads, n, n, dtype=torch.bool)
    seen[:, :, 0] = seen[:, :, -1] = True
    seen[:, 0] = seen[:, -1] = True
    for away in (-1, 0, 1):
        rows = torch.arange(max(0, -away), n - max(0, away))
        seen[:, rows, rows + away] = True
    seen[:, 1 : n - 1].scatter_(2, drawn, True)
    return seen.to(args.device)


def block_mask(args):
    """The pattern as FlexAttention takes it."""
    from torch.nn.attention.flex_attention import BlockMask, create_block_mask

    if args.kind == "window":
        reach, first = args.window, args.globals
        allowed = lambda b, h, q, k: ((q - k).abs() <= reach) | (k < first)
        return create_block_mask(allowed, None, None, args.length, args.length, device=args.device)
    seen = seen_blocks(args).int()
    # Whole blocks, listed first among all blocks of their row.
    columns = seen.argsort(dim=-1, descending=True, stable=True).int()
    full = seen.sum(-1).int()
    return BlockMask.from_kv_blocks(
        torch.zeros_like(full)[None], columns[None], full[None], columns[None], BLOCK_SIZE=args.block_size
    )


def dense_mask(args):
    """The pattern as a tensor of booleans, [1 or H, S, S]."""
    if args.kind == "block-sparse":
        return seen_blocks(args).repeat_interleave(args.block_size, 1).repeat_interleave(args.block_size, 2)
    at = torch.arange(args.length, device=args.device)
    return (((at[:, None] - at).abs() <= args.window) | (at < args.globals))[None]


class Given(torch.nn.Module):
    """Stands for a projection: gives the tensor it was made with."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, hidden):
        return self.value.transpose(0, 1) * 1


def led(args, q, k, v):
    from transformers.models.led.modeling_led import LEDEncoderSelfAttention

    config = transformers.LEDConfig(
        d_model=args.heads * args.head_size,
        encoder_attention_heads=args.heads,
        attention_window=[2 * args.window],
        encoder_layers=1,
        attention_dropout=0.0,
    )
    module = LEDEncoderSelfAttention(config, 0).to(args.device).eval()
    if args.length % (2 * args.window):
        raise Absent(f"transformers pads to multiples of {2 * args.window}")
    module.query = module.query_global = Given(q)
    module.key = module.key_global = Given(k)
    module.value = module.value_global = Given(v)
    state = torch.zeros(args.batch_size, args.length, device=args.device)
    state[:, : args.globals] = 10000.0
    hidden = torch.zeros(args.batch_size, args.length, q.shape[-1], device=args.device, dtype=q.dtype)
    return lambda: module(
        hidden,
        attention_mask=state,
        is_index_masked=state < 0,
        is_index_global_attn=state > 0,
        is_global_attn=args.globals > 0,
    )[0]


def hf_blocks(args, q, k, v):
    from transformers.models.bigbird_pegasus.modeling_bigbird_pegasus import BigBirdPegasusEncoder

    module = bigbird(args)
    ones = torch.ones(args.batch_size, args.length, device=args.device, dtype=q.dtype)
    blocked, band, from_mask, to_mask = BigBirdPegasusEncoder.create_masks_for_block_sparse_attn(ones, args.block_size)
    sizes = (args.heads, args.random_blocks, args.head_size, args.block_size, args.block_size)
    lengths = (args.batch_size, args.length, args.length)
    return lambda: module.bigbird_block_sparse_attention(
        q, k, v, band, from_mask, to_mask, blocked, blocked, *sizes, *lengths,
        seed=0, plan_from_length=None, plan_num_rand_blocks=None,
    )[0]


def attention(args):
    """The leaves and a function of none that gives the output from them."""
    generator = torch.Generator().manual_seed(args.seed)
    b, s, h, d = args.batch_size, args.length, args.heads, args.head_size
    shape = (b, s, h * d) if args.peer == "hf" and args.kind == "window" else (b, h, s, d)
    if args.peer == "flash-attn":
        shape = (b, s, h, d)
    drawn = [torch.rand(shape, generator=generator) * 2 - 1 for _ in range(4)]
    q, k, v, d_o = (x.to(args.device, DTYPES[args.precision]) for x in drawn)
    if args.direction == "backward":
        q, k, v = (x.requires_grad_() for x in (q, k, v))
    leaves = (q, k, v)
    if args.peer == "hf":
        return leaves, (led if args.kind == "window" else hf_blocks)(args, *leaves)
    if args.peer == "flash-attn":
        if not usable(args.kind, args.peer, args.device):
            raise Absent("flash_attn is not installed, or there is no GPU")
        from flash_attn import flash_attn_func

        reach = (args.window, args.window) if args.kind == "window" else (-1, -1)
        return leaves, lambda: flash_attn_func(q, k, v, window_size=reach)
    if args.peer == "flex":
        if args.device == "cpu" and args.direction == "backward":
            raise Absent("FlexAttention has no backward pass on the CPU")
        from torch.nn.attention.flex_attention import flex_attention

        compiled, mask = torch.compile(flex_attention), block_mask(args)
        return leaves, lambda: compiled(q, k, v, block_mask=mask)
    if args.peer == "cudnn":
        from torch.nn.attention import SDPBackend, sdpa_kernel

        def by_cudnn():
            with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
                return F.scaled_dot_product_attention(q, k, v)

        return leaves, by_cudnn
    mask = dense_mask(args)[None] if args.peer == "sdpa-mask" else None
    return leaves, lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


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


def energy(run):
    """Joules of one run, or why they are not known."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(0).uuid}")
        counter = lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) * 1e-3
        start, before, runs = time.perf_counter(), counter(), 0
        while time.perf_counter() - start < ENERGY_SECONDS:
            run()
            torch.cuda.synchronize()
            runs += 1
        return {"energy_j": (counter() - before) / runs}
    except Exception as why:
        return {"energy_j": None, "energy_note": f"n/a: {why}"}


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
        before = flush
    else:
        o = forward()
        d_o = torch.rand_like(o) * 2 - 1
        run = lambda: torch.autograd.grad(o, leaves, d_o, retain_graph=True)
        before = flush
    run()
    timing = "host"
    if on_gpu:
        run, timing = captured(run)
    seconds = repeat(args, run, before, event_clock if on_gpu else host_clock)
    seconds_sorted = sorted(seconds)
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
        "median_s": seconds_sorted[len(seconds) // 2],
        "finite": bool(torch.isfinite(forward()).all()),
        **(energy(run) if on_gpu else {"energy_j": None, "energy_note": "n/a: asked of a GPU only"}),
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
