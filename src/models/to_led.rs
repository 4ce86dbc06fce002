//! A LED made of a BART, as the released ones were: the same weights, more positions, attention in windows.
//!
//! Beltagy et al. 2020, arXiv 2004.05150, section 7: the encoder's positions are repeated, and the projections of
//! global attention begin as those of the local one. With a window that spans the input and no global token, the
//! LED computes what the BART does.

use super::load::{Loaded, from_text, load};
use super::{ModelOptions, led};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::nn::Entry;
use serde_json::{Map, Value};
use std::path::Path;

/// What a BART does not decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedShape {
    /// Positions of the encoder.
    pub positions: usize,
    /// Tokens that each token sees, both sides together.
    pub window: usize,
}

/// Keys of a BART's configuration that a LED's has not.
const ONLY_IN_BART: [&str; 6] = [
    "max_position_embeddings",
    "scale_embedding",
    "normalize_before",
    "normalize_embedding",
    "add_final_layer_norm",
    "static_position_embeddings",
];

/// The LED of the BART in the directory `dir`.
///
/// Fails for other families, for a BART that scales its embeddings (a LED does not), and where `shape` has fewer
/// positions than the BART or no LED's window.
pub fn to_led(dir: &Path, shape: LedShape) -> Result<Loaded> {
    let bart = load(dir, &Device::cpu(), ModelOptions::default())?;
    let at = dir.join("config.json").display().to_string();
    let family = bart.config.family();
    if !family.becomes_led {
        return Err(Error::data(at, format!("no LED can be made of a {}; only of a BART", family.name)));
    }
    let mut config: Map<String, Value> =
        serde_json::from_str(&bart.config_text).map_err(|e| Error::data(&at, e.to_string()))?;
    if config.get("scale_embedding") == Some(&Value::from(true)) {
        return Err(Error::data(at, "scale_embedding is true, and a LED's embeddings are not scaled"));
    }
    let limits = bart.model.limits();
    let LedShape { positions, window } = shape;
    if positions < limits.max_source {
        let before = limits.max_source;
        let what =
            format!("a LED of {positions} positions would read less than the model, which has {before}");
        return Err(Error::usage(what));
    }
    ONLY_IN_BART.iter().for_each(|key| drop(config.remove(*key)));
    let layers = bart.config.common().encoder_layers;
    config.insert("model_type".into(), led::FAMILY.model_type.into());
    config.insert("architectures".into(), vec![led::FAMILY.architecture].into());
    config.insert("max_encoder_position_embeddings".into(), positions.into());
    config.insert("max_decoder_position_embeddings".into(), limits.max_target.into());
    config.insert("attention_window".into(), vec![window; layers].into());
    let text = serde_json::to_string_pretty(&config).map_err(|e| Error::internal(e.to_string()))? + "\n";
    let device = bart.parameters.device();
    let made = from_text(&format!("the LED of {}", dir.display()), text, device, ModelOptions::default())?;
    for entry in &made.parameters.entries {
        made.parameters.part(&made.parameters.slab, entry)?.write(&values(&bart, entry)?)?;
    }
    Ok(made)
}

/// The values of a LED's parameter.
fn values(bart: &Loaded, entry: &Entry) -> Result<Vec<f32>> {
    let name = name_in_bart(&entry.name);
    let parameters = &bart.parameters;
    let source = parameters.entries.iter().find(|source| source.name == name);
    let source = source.ok_or_else(|| Error::internal(format!("a BART has no {name}")))?;
    let all = parameters.read(&parameters.slab, source)?;
    if !name.ends_with("embed_positions.weight") {
        return Ok(all);
    }
    // Without the rows that no position has, over and over.
    let c = entry.shape.last();
    let unused = source.shape.len() - bart.model.limits().max_source * c;
    Ok(all[unused..].iter().copied().cycle().take(entry.shape.len()).collect())
}

/// The parameter of a BART that the LED's `name` starts as.
fn name_in_bart(name: &str) -> String {
    let name = name.replacen("led.", "model.", 1).replace("self_attn.output.", "self_attn.out_proj.");
    ["query", "key", "value"].iter().fold(name, |name, part| {
        let own = format!("self_attn.{}_proj.", &part[..1]);
        name.replace(&format!("self_attn.longformer_self_attn.{part}."), &own)
            .replace(&format!("self_attn.longformer_self_attn.{part}_global."), &own)
    })
}
