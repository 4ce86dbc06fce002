//! mBART: pre-norm, learned positions, and norms after the embedding and after the last layer.
//!
//! Liu et al. 2020, arXiv 2001.08210; HF `MBartForConditionalGeneration`.

use super::Family;
use super::dense::{self, Keys};

pub static FAMILY: Family = Family {
    name: "mBART",
    model_type: "mbart",
    architecture: "MBartForConditionalGeneration",
    window_key: None,
    has_global_attention: false,
    has_random_blocks: false,
    becomes_led: false,
    target_begins_with_last_label: true,
    parse: |at, text| dense::parse(&FAMILY, &defaults(), at, text),
};

/// Those of HF's `MBartConfig`.
fn defaults() -> Keys {
    Keys { normalize_before: true, add_final_layer_norm: true, ..Keys::default() }
}
