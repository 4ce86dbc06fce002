//! BART: post-norm, learned positions, and a norm after the embedding.
//!
//! Lewis et al. 2020, arXiv 1910.13461; HF `BartForConditionalGeneration`.

use super::Family;
use super::dense::{self, Keys};

pub static FAMILY: Family = Family {
    name: "BART",
    model_type: "bart",
    architecture: "BartForConditionalGeneration",
    window_key: None,
    has_global_attention: false,
    has_random_blocks: false,
    becomes_led: true,
    target_begins_with_last_label: false,
    parse: |at, text| dense::parse(&FAMILY, &Keys::default(), at, text),
};
