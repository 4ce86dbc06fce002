"""The patterns of `wattention bench attention` as PyTorch's libraries express them; attention_peers.py times them."""

import importlib.util

import torch
import torch.nn.functional as F
import transformers

PEERS = {
    "window": ["flex", "sdpa-mask", "hf", "flash-attn"],
    "block-sparse": ["flex", "sdpa-mask", "hf"],
    "dense": ["sdpa", "cudnn", "flash-attn"],
}
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}


class Absent(Exception):
    """Why a peer has no time."""


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

    def __init__(self, value, fresh=lambda x: x):
        super().__init__()
        self.value, self.fresh = value, fresh

    def forward(self, hidden):
        return self.fresh(self.value).transpose(0, 1)


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
    # What the query projection gives is scaled in place.
    module.query, module.query_global = Given(q, lambda x: x * 1), Given(q[:, : args.globals], lambda x: x * 1)
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
