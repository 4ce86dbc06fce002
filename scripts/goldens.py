"""Regenerates tests/goldens/ from transformers 5.17.0 and rouge_score 0.1.2.

    pip install torch==2.11.0 transformers==5.17.0 safetensors numpy rouge-score==0.1.2
    python scripts/goldens.py [--only NAME ...] [--out DIR]

Every value comes from transformers or another published implementation, none from this project.
The same versions on the same machine write the same bytes.

rouge_f1.json and bigbird_plans.json are described in golden_text.py and golden_plans.py. generation.json has
`batches` (by model and number: rows of input ids of unequal length; padded on the right and masked, for LED the
first token global) and `cases`: a batch, arguments of generate(), and the sequences that it gives in float64. float32
gives the same, and so do scores that are off by up to 2e-4 at random. generation_settings.json has `cases` of the
same form for the settings that change scores, and `pieces`, the text that each token stands for. Rows with rules about
the input are answered one by one. generation_filters.json has rows of logits `[V]`, the tokens before, those of the
input, arguments of generate(), and the tokens that can be drawn: their probabilities, or with several beams their
scores. generation_texts.json has what tokens add to a text, in hexadecimal bytes, and what decode() makes of ids
with and without clean_up_tokenization_spaces. generation_keys.json has the keys of GenerationConfig with the defaults
that generate() fills in. global_attention.json has texts with their ids under tiny-led's tokenizer and PRIMERA's added
`<doc-sep>` (`separator`), cut to `max_length`, how many tokens the whole text has, and by rule the positions of the
global ones.

primera is a LED with PRIMERA's `<doc-sep>`, fine-tuned: model/ without the files of hub_tokenizers/led, which its
tokenizer has too; train.jsonl and validation.jsonl, whose inputs are several documents; and expected.json, computed in
float64: `lengths` and `learning_rate`, by split the `ids`, `labels` and `global` positions of each record and the
`tokens` of the whole input, and `before` and `tuned` (after steps of AdamW on the whole training split at once, whose
losses are `train_losses`) the loss and the generated `sequences` of the validation split by the settings of
generation_config.json, as `predictions` in SCROLLS' way, and their ROUGE by rouge_score.

A model case is a folder:

config.json, model.safetensors, generation_config.json
    As save_pretrained writes them, float32. The shared embedding is stored once.
inputs.safetensors (i64)
    input_ids [B, S], attention_mask [B, S], labels [B, T] (-100 is ignored) and, where the case has
    one, global_attention_mask [B, S].
expected.safetensors (computed in float64, stored as float32 unless said)
    logits [B, T, V], loss [] (f64), encoder_last_hidden_state [B, S, C].
    train_logits, train_loss (f64), train_encoder_last_hidden_state: BigBird-Pegasus only, in train mode.
    grad.<name in state_dict>: d loss / d parameter, for every parameter; the shared embedding once.
    bf16_error.<what> [] (f64): the relative L2 error of transformers itself in bfloat16 for logits,
        encoder_last_hidden_state (real tokens), both in train mode where stored, and gradients (all
        parameters together): the measure of what bfloat16 may cost.
    train_losses [10] (f64): the loss before each of ten steps on the same batch with torch.optim.AdamW,
        lr 1e-3, betas (0.9, 0.999), eps 1e-8, weight_decay 0.01 on every parameter, no clipping.
    greedy_tokens [B, L] (i64): decoder start, then at most `max_new_tokens` tokens (in the file's
        metadata, key `generation`), pad after EOS. They follow from config.json alone.

To compare:

* Dropout is 0, so LED's train and eval modes agree. BigBird's do not: in eval mode every random block is
  block 0, in train mode the drawn plan is used. logits, loss, encoder_last_hidden_state and greedy_tokens
  are eval; train_*, grad.* and train_losses are train mode.
* encoder_last_hidden_state counts only where attention_mask is 1. Rows of padding are finite, but what a
  masked query computes is an accident of the implementation: its attention output is 0 in LED and in block
  sparse BigBird, while full attention lets it look at the real keys. Nothing else depends on these rows.
* Key biases have gradient 0 (softmax ignores a shift), stored as exact zeros; so have LED's global
  projections when no token is global, which torch's AdamW then skips, weight decay included. A float32
  engine has rounding noise there: bound it by the norm of all gradients together, not by its own.
* The pad row of the shared embedding learns from the LM head only; lookups give it no gradient
  (padding_idx), also where pad is a decoder input because its label was -100.
* bigbird_block_sparse, bigbird_bias_relu, bigbird_2048: one segment of 2R+5 blocks supplies all random
  blocks. The other plans of _get_rand_attn_plan need S <= (5+2R)K, where attention is full already.
* bigbird_old_plan_1024: 1024 tokens take the older plan, here for a model of just 1024 positions, so that
  blocks of the window recur among the random ones; each occurrence counts in the softmax.
"""

import argparse
from importlib.metadata import version
from pathlib import Path

import torch
import transformers

import golden_cases
import golden_generation
import golden_global_attention
import golden_models
import golden_plans
import golden_primera
import golden_settings
import golden_text

VERSIONS = {"torch": "2.11.0", "transformers": "5.17.0", "rouge-score": "0.1.2"}


def main():
    writers = {name: golden_models.write_case for name in golden_cases.CASES}
    # After the models that it reads.
    writers["generation"] = golden_generation.write_generation
    writers["generation_settings"] = golden_settings.write_settings
    writers["generation_filters"] = golden_settings.write_filters
    writers["generation_keys"] = golden_settings.write_keys
    writers["generation_texts"] = golden_settings.write_texts
    writers["global_attention"] = golden_global_attention.write_global_attention
    # After the tokenizer that it adds a token to (hub_tokenizers.py).
    writers["primera"] = golden_primera.write_primera
    writers["rouge_f1"] = golden_text.write_rouge_f1
    writers["bigbird_plans"] = golden_plans.write_plans
    parser = argparse.ArgumentParser(description="Regenerates tests/goldens/.")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=writers, default=list(writers))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "tests" / "goldens")
    args = parser.parse_args()

    for package, wanted in VERSIONS.items():
        if version(package).split("+")[0] != wanted:
            parser.error(f"{package} {version(package)} is installed, the goldens are made with {wanted}")
    # One thread and no choice of algorithm: sums are added in the same order every time.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()

    for name in args.only:
        print(writers[name](name, args.out), flush=True)


if __name__ == "__main__":
    main()
