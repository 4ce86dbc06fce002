//! The keys of `generation_config.json` that are no settings here: those that change no text, and those that are refused.
//!
//! With the [settings](super::options::SETTINGS), the [lengths](super::options::LENGTHS) and [`START`] they are all of transformers 5.17; any other key is
//! warned of.

use serde_json::Value as Json;

/// The start token where there is no `decoder_start_token_id`.
pub const START: &str = "bos_token_id";

/// A key that changes no text, and why.
pub const HARMLESS: [(&str, &str); 30] = [
    ("_commit_hash", METADATA),
    ("_from_model_config", METADATA),
    ("_original_object_hash", METADATA),
    ("transformers_version", METADATA),
    ("use_cache", CACHE),
    ("cache_config", CACHE),
    ("max_cache_len", CACHE),
    ("low_memory", CACHE),
    ("prefill_chunk_size", CACHE),
    ("compile_config", "how PyTorch compiles"),
    ("disable_compile", "how PyTorch compiles"),
    ("continuous_batching_config", "how batches are put together"),
    ("output_attentions", OUTPUT),
    ("output_hidden_states", OUTPUT),
    ("output_scores", OUTPUT),
    ("output_logits", OUTPUT),
    ("return_dict_in_generate", OUTPUT),
    ("remove_invalid_values", "scores that are no numbers are never chosen"),
    ("diversity_penalty", "only between groups of beams, which are refused"),
    ("max_matching_ngram_size", ASSISTANT),
    ("num_assistant_tokens", ASSISTANT),
    ("num_assistant_tokens_schedule", ASSISTANT),
    ("assistant_confidence_threshold", ASSISTANT),
    ("assistant_lookbehind", ASSISTANT),
    ("target_lookbehind", ASSISTANT),
    ("assistant_ensemble_weight", ASSISTANT),
    ("speculation_type", ASSISTANT),
    ("assistant_early_exit", ASSISTANT),
    ("prompt_lookup_num_tokens", ASSISTANT),
    ("use_mtp", ASSISTANT),
];

const METADATA: &str = "who wrote the file";
const CACHE: &str = "how keys and values are kept";
const OUTPUT: &str = "what else is returned";
const ASSISTANT: &str = "a second model that only makes the first one faster";

/// A key that is refused, what it asks for, and whether a value asks for nothing.
pub struct Refused {
    pub key: &'static str,
    pub what: &'static str,
    pub is_off: fn(&Json) -> bool,
}

pub const REFUSED: [Refused; 10] = [
    Refused { key: "penalty_alpha", what: "contrastive search", is_off: |v| is_number(v, 0.0) },
    Refused { key: "dola_layers", what: "decoding by contrasting layers", is_off: is_empty },
    Refused { key: "constraints", what: "constrained beam search", is_off: is_empty },
    Refused { key: "force_words_ids", what: "constrained beam search", is_off: is_empty },
    Refused { key: "num_beam_groups", what: "groups of beams", is_off: |v| is_number(v, 1.0) },
    Refused { key: "guidance_scale", what: "classifier-free guidance", is_off: |v| is_number(v, 1.0) },
    Refused { key: "watermarking_config", what: "a watermark", is_off: is_empty },
    Refused { key: "token_healing", what: "token healing", is_off: is_empty },
    Refused { key: "is_assistant", what: "answers that stop at unsure tokens", is_off: is_empty },
    Refused {
        key: "cache_implementation",
        what: "rounded keys and values",
        is_off: |value| value.as_str() != Some("quantized"),
    },
];

fn is_empty(value: &Json) -> bool {
    match value {
        Json::Null | Json::Bool(false) => true,
        Json::Array(list) => list.is_empty(),
        Json::Object(map) => map.is_empty(),
        _ => false,
    }
}

fn is_number(value: &Json, off: f64) -> bool {
    value.is_null() || value.as_f64() == Some(off)
}
