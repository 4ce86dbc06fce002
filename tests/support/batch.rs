//! A golden's inputs as a model takes them, and its answers.

use super::golden::{self, Array};
use std::collections::BTreeMap;
use wattention::models::Model;
use wattention::models::batch::{Source, SourceRows, Target};

/// The inputs and expected values of one model case.
pub struct Golden {
    pub source: Source,
    pub target: Target,
    /// The attention mask `[B, S]` without padding to blocks, 1 where a token is real.
    pub mask: Vec<i64>,
    pub expected: BTreeMap<String, Array>,
}

/// Names of all model cases but the two that differ from others in their length alone.
pub fn short_cases() -> Vec<String> {
    let mut names = golden::cases();
    let all = names.len();
    names.retain(|name| !name.ends_with("1024") && !name.ends_with("2048"));
    assert_eq!(names.len() + 2, all, "other cases are long: {names:?}");
    names
}

/// Reads `tests/goldens/NAME` for a model with `limits`.
pub fn open(name: &str, model: &dyn Model) -> Golden {
    let dir = golden::root().join(name);
    let inputs = golden::read(&dir.join("inputs.safetensors"));
    let integers = |key: &str| inputs.get(key).map(Array::integers);
    let (ids, mask) = (inputs["input_ids"].integers(), integers("attention_mask"));
    let (batch, global) = (inputs["input_ids"].shape[0], integers("global_attention_mask"));
    let rows = SourceRows {
        batch,
        ids: &ids,
        attention_mask: mask.as_deref(),
        global_attention_mask: global.as_deref(),
    };
    let limits = model.limits();
    Golden {
        source: Source::new(&limits, rows).unwrap(),
        target: Target::from_labels(&limits, batch, &inputs["labels"].integers()).unwrap(),
        expected: golden::read(&dir.join("expected.safetensors")),
        mask: mask.unwrap_or_else(|| vec![1; ids.len()]),
    }
}
