"""BigBird's drawn random blocks for many configurations, as bigbird_plans.json.

Each row: layer (the seed), seq_len (already padded to blocks), block_size, num_random_blocks, heads,
max_position, and either
    sha256 of the plan as int32 little endian [heads][seq_len / block_size - 2][num_random_blocks], with
    head_0, its first rows for head 0, and last_row, the last row of the last head; or
    raises: true where transformers fails on this configuration.
The plan is the one of train mode. full_attention marks rows whose seq_len never gets as far as a plan in a
model, because attention is full up to (5 + 2 num_random_blocks) block_size tokens.
"""

import hashlib
import json
from pathlib import Path
from unittest import mock

import torch
from transformers import BigBirdPegasusConfig
from transformers.models.bigbird_pegasus.modeling_bigbird_pegasus import BigBirdPegasusBlockSparseAttention

# Longer inputs are not run through the attention itself, only through its drawing of blocks.
LONGEST_RUN = 1088
SHOWN_ROWS = 4


def configurations():
    """(layer, seq_len, block_size, num_random_blocks, heads, max_position)"""
    # The released checkpoints. Up to 704 tokens the plan is unreachable; 512 and 640 take its other branches.
    for seq_len in (512, 640, 704, 768, 832, 960, 1024, 1088, 2048, 3072, 3136, 4032, 4096):
        for layer in (0, 1, 7, 15):
            yield layer, seq_len, 64, 3, 16, 4096
    # Other block sizes and counts: one segment of 2R+5 blocks, then the two-segment and the one-segment plan.
    for block_size, r in ((8, 2), (16, 1), (16, 3), (16, 5), (32, 2), (64, 1), (64, 5)):
        for blocks in sorted({r + 4, r + 5, r + 6, 2 * r + 5, 2 * r + 6, 2 * r + 9, 3 * r + 20}):
            for layer in (0, 23):
                yield layer, blocks * block_size, block_size, r, 3, 4096
    # The older plan with other tables: rows of max_position are drawn and cut, so that the stream depends on it.
    for seq_len in (1024, 3072, 4096):
        for block_size, r in ((16, 2), (32, 5), (64, 1), (64, 3), (64, 5), (128, 1), (128, 3), (128, 5),
                              (256, 1), (512, 1)):
            for max_position in (1024, 2048, 4096, 8192):
                if seq_len <= max_position:
                    yield 5, seq_len, block_size, r, 2, max_position
    # The table is a block short, or the input longer than it.
    yield 0, 1024, 64, 3, 2, 1000
    yield 0, 3072, 64, 3, 2, 1024
    # A table that ends inside a block, and no random blocks at all.
    yield 0, 1024, 64, 3, 2, 1100
    yield 0, 512, 32, 0, 2, 1024


class Drawn(Exception):
    """Carries the plan out of the attention as soon as it is drawn."""


def attend(seq_len, block_size, num_random_blocks, heads, max_position, layer):
    """The attention of transformers in train mode on one sample without padding."""
    config = BigBirdPegasusConfig(
        d_model=heads, encoder_attention_heads=heads, block_size=block_size,
        num_random_blocks=num_random_blocks, max_position_embeddings=max_position,
    )
    attention = BigBirdPegasusBlockSparseAttention(config, seed=layer).train()
    blocks = seq_len // block_size
    blocked = torch.ones(1, blocks, block_size)
    with torch.no_grad():
        attention(
            torch.ones(1, seq_len, heads),
            band_mask=torch.ones(1, 1, max(blocks - 4, 0), block_size, 3 * block_size),
            from_mask=torch.ones(1, 1, seq_len, 1),
            to_mask=torch.ones(1, 1, 1, seq_len),
            from_blocked_mask=blocked,
            to_blocked_mask=blocked,
        )


def drawn_plan(**arguments):
    def stop(from_blocked_mask, to_blocked_mask, rand_attn, *rest):
        raise Drawn(rand_attn[0])

    with mock.patch.object(BigBirdPegasusBlockSparseAttention, "_create_rand_mask_from_inputs", staticmethod(stop)):
        try:
            attend(**arguments)
        except Drawn as drawn:
            return drawn.args[0].numpy().astype("<i4")


def write_plans(name, out):
    """Writes `out`/name.json and returns a line that sums it up."""
    keys = ("layer", "seq_len", "block_size", "num_random_blocks", "heads", "max_position")
    rows = []
    for values in configurations():
        row = dict(zip(keys, values))
        limit = (5 + 2 * row["num_random_blocks"]) * row["block_size"]
        expected = (row["heads"], row["seq_len"] // row["block_size"] - 2, row["num_random_blocks"])
        try:
            plan = drawn_plan(**row)
            if plan.shape != expected or row["seq_len"] <= LONGEST_RUN:
                attend(**row)
        except (ValueError, RuntimeError, IndexError):
            rows.append({**row, "full_attention": row["seq_len"] <= limit, "raises": True})
            continue
        if plan.shape != expected:
            raise SystemExit(f"{name}: {row} draws {plan.shape}, yet the attention accepts it")
        rows.append({
            **row,
            "full_attention": row["seq_len"] <= limit,
            "sha256": hashlib.sha256(plan.tobytes()).hexdigest(),
            "head_0": plan[0, :SHOWN_ROWS].tolist(),
            "last_row": plan[-1, -1].tolist(),
        })
    Path(out).mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(row) for row in rows)
    (Path(out) / f"{name}.json").write_text(f"[\n{lines}\n]\n")
    return f"{name}: {len(rows)} rows, {sum('raises' in row for row in rows)} of them raise"
