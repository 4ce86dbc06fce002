//! Pegasus: pre-norm, sinusoidal positions, and a norm after the last layer.
//!
//! Zhang et al. 2020, arXiv 1912.08777; HF `PegasusForConditionalGeneration`.

use super::Family;
use super::config::Common;
use super::dense::{self, Keys};

pub static FAMILY: Family = Family {
    name: "Pegasus",
    model_type: "pegasus",
    architecture: "PegasusForConditionalGeneration",
    window_key: None,
    has_global_attention: false,
    has_random_blocks: false,
    becomes_led: false,
    target_begins_with_last_label: false,
    parse: |at, text| dense::parse(&FAMILY, &defaults(), at, text),
};

/// Those of HF's `PegasusConfig`.
fn defaults() -> Keys {
    Keys {
        common: Common {
            pad_token_id: 0,
            bos_token_id: 0,
            eos_token_id: 1,
            decoder_start_token_id: 0,
            ..Common::default()
        },
        normalize_before: true,
        normalize_embedding: false,
        add_final_layer_norm: true,
        static_position_embeddings: true,
        ..Keys::default()
    }
}
