"""The configurations and batches of the model goldens; golden_models.py computes their results."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Case:
    """One model and one batch. `lengths` and `targets` count the real tokens of each sample."""

    family: str
    seed: int
    config: dict
    source: int
    lengths: tuple
    targets: tuple
    # Positions of the global tokens of each sample; None passes no global_attention_mask at all.
    global_tokens: tuple | None = None
    # Label positions of each sample set to -100 in addition to those after its end.
    ignored: dict = field(default_factory=dict)
    logits_bias: bool = False


def dense(layers=(2, 2), heads=(2, 2), ffn=(40, 40), positions=64, **config):
    """A BART, Pegasus or mBART."""
    return {
        "vocab_size": 97,
        "encoder_layers": layers[0],
        "decoder_layers": layers[1],
        "encoder_attention_heads": heads[0],
        "decoder_attention_heads": heads[1],
        "encoder_ffn_dim": ffn[0],
        "decoder_ffn_dim": ffn[1],
        "max_position_embeddings": positions,
        "dropout": 0.0,
        **config,
    }


def led(layers=(2, 2), heads=(2, 2), ffn=(40, 40), positions=64, **config):
    return {
        "vocab_size": 99,
        "encoder_layers": layers[0],
        "decoder_layers": layers[1],
        "encoder_attention_heads": heads[0],
        "decoder_attention_heads": heads[1],
        "encoder_ffn_dim": ffn[0],
        "decoder_ffn_dim": ffn[1],
        "max_encoder_position_embeddings": positions,
        "max_decoder_position_embeddings": 24,
        "dropout": 0.0,
        **config,
    }


def bigbird(layers=(2, 2), heads=2, ffn=32, positions=128, **config):
    return {
        "vocab_size": 96,
        "encoder_layers": layers[0],
        "decoder_layers": layers[1],
        "encoder_attention_heads": heads,
        "decoder_attention_heads": heads,
        "encoder_ffn_dim": ffn,
        "decoder_ffn_dim": ffn,
        "max_position_embeddings": positions,
        "dropout": 0.0,
        **config,
    }


# Seeds are chosen so that greedy decoding of some samples meets EOS and the runner-up is never close.
CASES = {
    # The window is padded from 37 to 40; the first token is global, as in the study.
    "led_plain": Case(
        "led", 41, led(heads=(4, 4), d_model=32, attention_window=[8, 8]),
        source=37, lengths=(37, 25), targets=(11, 7), global_tokens=((0,), (0,)),
    ),
    # Global tokens inside and outside each other's windows; position 44 of sample 1 is masked,
    # so that its global flag has no effect.
    "led_windows_per_layer": Case(
        "led", 382, led(layers=(3, 2), heads=(3, 3), d_model=24, attention_window=[4, 16, 8]),
        source=45, lengths=(45, 38), targets=(9, 12),
        global_tokens=((0, 3, 4, 20, 44), (7, 30, 44)),
    ),
    # One window reaches past both ends; the head size is not a power of two.
    "led_no_global": Case(
        "led", 563, led(d_model=24, positions=32, attention_window=[32, 32]),
        source=19, lengths=(19, 19), targets=(10, 10),
    ),
    "led_many_globals": Case(
        "led", 264, led(d_model=16, positions=96, attention_window=[16, 16]),
        source=96, lengths=(96, 90), targets=(8, 6),
        global_tokens=(tuple(range(0, 80, 2)), tuple(range(5, 38))),
    ),
    # Everything that may differ between encoder and decoder does; sample 1 adds nothing to the loss.
    "led_relu_bias": Case(
        "led", 3265,
        led(layers=(2, 3), heads=(4, 2), ffn=(40, 24), d_model=24, attention_window=[12, 4],
            activation_function="relu"),
        source=31, lengths=(31, 20, 9), targets=(10, 8, 9),
        global_tokens=((0,), (0, 1, 2, 10), ()),
        ignored={0: (3, 4, 8), 1: tuple(range(10))}, logits_bias=True,
    ),
    "led_gelu_new": Case(
        "led", 166,
        led(heads=(5, 5), d_model=20, attention_window=[8, 8], activation_function="gelu_new"),
        source=24, lengths=(24, 17), targets=(9, 9), global_tokens=((0,), (0, 16)),
    ),
    # 250 tokens are padded to 16 blocks; the last block and a half of sample 1 are masked.
    "bigbird_block_sparse": Case(
        "bigbird_pegasus", 1031,
        bigbird(heads=3, positions=256, d_model=24, block_size=16, num_random_blocks=3),
        source=250, lengths=(250, 231), targets=(10, 7),
    ),
    # At (5 + 2*3)*8 = 88 tokens attention is still full, for one token more it is not.
    "bigbird_full_fallback": Case(
        "bigbird_pegasus", 672,
        bigbird(d_model=24, block_size=8, num_random_blocks=3, activation_function="gelu_fast"),
        source=88, lengths=(88, 61), targets=(9, 9),
    ),
    # With 1024 positions the plan's last two rows may draw blocks of their own window.
    "bigbird_old_plan_1024": Case(
        "bigbird_pegasus", 893,
        bigbird(layers=(1, 1), positions=1024, d_model=16, block_size=64, num_random_blocks=3),
        source=1024, lengths=(950,), targets=(9,),
    ),
    "bigbird_bias_relu": Case(
        "bigbird_pegasus", 1154,
        bigbird(d_model=16, block_size=8, num_random_blocks=2, use_bias=True,
                activation_function="relu", scale_embedding=False),
        source=93, lengths=(93, 70), targets=(8, 10), ignored={0: (2,)}, logits_bias=True,
    ),
    # 2048 is the one length of the study whose plan is not read off the table for 4096.
    "bigbird_2048": Case(
        "bigbird_pegasus", 455,
        bigbird(layers=(1, 1), positions=2048, d_model=8, block_size=64, num_random_blocks=3),
        source=2048, lengths=(2011,), targets=(9,),
    ),
    "bart_plain": Case(
        "bart", 763, dense(heads=(4, 4), d_model=32), source=37, lengths=(37, 25), targets=(11, 7),
    ),
    # Everything that may differ between encoder and decoder does; sample 1 adds nothing to the loss.
    "bart_scaled": Case(
        "bart", 773,
        dense(layers=(3, 2), heads=(3, 2), ffn=(24, 40), d_model=24, activation_function="relu", scale_embedding=True),
        source=64, lengths=(64, 40, 9), targets=(10, 8, 12),
        ignored={0: (3, 4, 8), 1: tuple(range(10))}, logits_bias=True,
    ),
    # The forms of Google's checkpoints: scaled embeddings, relu.
    "pegasus_plain": Case(
        "pegasus", 823,
        dense(layers=(2, 3), heads=(4, 4), d_model=32, activation_function="relu", scale_embedding=True),
        source=37, lengths=(37, 22), targets=(9, 12),
    ),
    # The sinusoids of an odd width are one longer than the cosines.
    "pegasus_odd_width": Case(
        "pegasus", 747, dense(heads=(3, 3), d_model=15), source=33, lengths=(33, 33), targets=(8, 8), ignored={0: (2,)},
    ),
    # The decoder begins with the last label, here as in mBART-50's targets the end of text.
    "mbart_plain": Case(
        "mbart", 867, dense(heads=(4, 2), d_model=24, scale_embedding=True, decoder_start_token_id=5),
        source=29, lengths=(29, 18), targets=(10, 7), logits_bias=True,
    ),
}
