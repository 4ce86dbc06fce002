#!/usr/bin/env bash
# Trains the tiny models of this folder from nothing, on the embedded training meetings alone.
# Usage: weights/recipe.sh [OUTPUT_DIR]; then copy OUTPUT_DIR/<name>/model.safetensors over the old ones.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-runs/recipe}
# The binary embeds the weights it is about to replace, so it is built once, before.
cargo build --release
wattention=target/release/wattention
for name in tiny-led tiny-bigbird-pegasus; do
  short="$out/$name-1024"
  long="$out/$name-4096"
  common=(--dataset qmsum-slice --max-target-length 128 --warmup-ratio 0.1 --adam-beta2 0.98
    --weight-decay 0.001 --label-smoothing 0.1 --no-predict --overwrite-output-dir)
  # Short inputs first: most of the language is learnt at a quarter of the cost.
  "$wattention" finetune --config-name "weights/$name/config.json" --tokenizer "weights/$name" \
    --output-dir "$short" --max-source-length 1024 --num-train-epochs 60 --learning-rate 2e-3 \
    --per-device-train-batch-size 8 "${common[@]}"
  # Then the positions beyond 1024.
  "$wattention" finetune --model "$short/model" --output-dir "$long" --max-source-length 4096 \
    --num-train-epochs 6 --learning-rate 1e-3 --per-device-train-batch-size 8 "${common[@]}"
  mkdir -p "$out/$name"
  cp "$long/model/model.safetensors" "$out/$name/model.safetensors"
done
