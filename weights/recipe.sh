#!/usr/bin/env bash
# Trains the models of this folder from nothing, on made-up documents (`wattention data synth needle`).
# Usage: weights/recipe.sh [OUTPUT_DIR [MODEL...]]; then copy OUTPUT_DIR/<model>/model.safetensors over the old ones.
# WATTENTION names a binary to use instead of building one.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-runs/recipe}
models=("${@:2}")
if [[ ${#models[@]} -eq 0 ]]; then
  models=(tiny-led small-led tiny-bigbird-pegasus tiny-bart)
fi
wattention=${WATTENTION:-target/release/wattention}
if [[ -z ${WATTENTION:-} ]]; then
  # The binary embeds the weights it is about to replace, so it is built once, before.
  cargo build --release
fi

# Documents of one fact, half to be asked about and half to be summarised: in DIR, of about LENGTH words.
documents() { # DIR LENGTH TRAIN
  for task in qa summary; do
    "$wattention" data synth needle --task "$task" --facts 1 --length "$2" --train "$3" --validation 64 --test 1 \
      --seed 1 --overwrite --to "$1/$task"
  done
  mkdir -p "$1/both"
  cat "$1"/{qa,summary}/train.jsonl > "$1/both/train.jsonl"
  cp "$1/qa/validation.jsonl" "$1/both/validation.jsonl"
}
documents "$out/short" 34 2900
documents "$out/long" 850 80

common=(--device cpu --max-target-length 32 --max-new-tokens 16 --warmup-ratio 0.05 --adam-beta2 0.98
  --overwrite-output-dir)
for name in "${models[@]}"; do
  # Short documents first: what the model needs is learnt in them at a fraction of the cost. Of so few, the smaller
  # LED has learnt to copy a part of an owner's words only, and the larger one all of them.
  "$wattention" finetune --config-name "weights/$name/config.json" --tokenizer "weights/$name" \
    --dataset "$out/short/both" --output-dir "$out/$name-short" --max-source-length 64 --num-train-epochs 1 \
    --learning-rate 2e-3 --per-device-train-batch-size 32 "${common[@]}"
  # Then attention that stays sharp over more tokens, and BigBird's sparse blocks.
  "$wattention" finetune --model "$out/$name-short/model" --dataset "$out/long/both" \
    --output-dir "$out/$name-long" --max-source-length 1024 --num-train-epochs 1 --learning-rate 5e-4 \
    --per-device-train-batch-size 8 "${common[@]}"
  # Half the bytes for everybody who installs the program, and nothing that the models could show is lost.
  "$wattention" convert --model "$out/$name-long/model" --output-dir "$out/$name" --dtype bf16 --overwrite-output-dir
done
