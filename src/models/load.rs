//! A model from a HF directory, or freshly initialised from a configuration.

use super::family::Config;
use super::{Model, ModelLimits, ModelOptions, parse_config, saved};
use crate::device::plan::Plan;
use crate::device::{Device, Precision};
use crate::error::{Error, Result};
use crate::hub;
use crate::nn::{Entry, Init, Parameters};
use crate::weights::{self, Wanted};
use std::io::{self, Write};
use std::path::Path;
use std::rc::Rc;

/// A model with its parameters and the configuration text it was made from.
pub struct Loaded {
    pub config: Rc<dyn Config>,
    /// `config.json` as read, kept so that saving loses nothing that is not known here.
    pub config_text: String,
    pub model: Box<dyn Model>,
    pub parameters: Parameters,
}

impl Loaded {
    /// The same architecture with weights of zeros on another device.
    pub fn twin(&self, device: &Device, options: ModelOptions) -> Result<Loaded> {
        let (model, parameters) =
            Parameters::build(device, options.weights, |b| self.config.build(b, options))?;
        Ok(Loaded { config: self.config.clone(), config_text: self.config_text.clone(), model, parameters })
    }

    /// Saves in HF layout: `config.json` and `model.safetensors`, tied weights once.
    pub fn save(&self, dir: &Path) -> Result<()> {
        self.weights()?.save(dir)
    }

    /// The text of `config.json` beside weights in `dtype`, by HF's name; the same where it is true of them.
    pub fn config_beside(&self, dtype: &str) -> Result<String> {
        saved::mended(&self.config_text, self.config.family(), dtype)
    }

    /// The weights as they are now, copied to the host; fails where some are kept in 8 bits.
    pub fn weights(&self) -> Result<Weights> {
        if self.parameters.int8.is_some() {
            return Err(Error::internal("weights in 8 bits are not saved"));
        }
        Ok(Weights {
            entries: self.parameters.entries.clone(),
            slab: self.parameters.slab.read()?,
            config_text: saved::config(&self.config_text, self.config.family(), "float32")?,
        })
    }

    /// Replaces the weights by those of a model directory, which may be safetensors or PyTorch files.
    pub fn read_weights(&self, dir: &Path) -> Result<()> {
        // eprintln! would panic on a closed stderr.
        let mut warn = |warning| drop(writeln!(io::stderr(), "warning: {warning}"));
        // One tensor at a time: the weights are never in memory twice.
        weights::load_each(dir, &wanted(&self.parameters), &mut warn, &mut |at, values| {
            self.parameters.write(&self.parameters.entries[at], &values)
        })?;
        self.parameters.refresh()
    }
}

/// A model's weights on the host, to be saved while the model changes.
pub struct Weights {
    pub entries: Vec<Entry>,
    /// Every entry at its place, as in [`Parameters::slab`].
    pub slab: Vec<f32>,
    /// As it is saved.
    config_text: String,
}

impl Weights {
    /// Saves in HF layout; `config.json` comes last.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let tensors: Vec<weights::Named> = self
            .entries
            .iter()
            .map(|entry| weights::Named {
                name: &entry.name,
                shape: entry.shape.dims(),
                values: weights::Values::F32(entry.of(&self.slab)),
            })
            .collect();
        weights::save(dir, &tensors)?;
        crate::files::write_text(&dir.join("config.json"), &self.config_text)
    }
}

/// Reads `dir/config.json` and `dir/model.safetensors` (or its shards).
pub fn load(dir: &Path, device: &Device, options: ModelOptions) -> Result<Loaded> {
    let loaded = empty(&dir.join("config.json"), device, options)?;
    loaded.read_weights(dir)?;
    Ok(loaded)
}

/// Writes the weights of the model directory `from` to `to/model.safetensors`, as [`weights::convert`] does; the model
/// given back holds no values.
pub fn convert(
    from: &Path,
    dtype: Option<weights::Dtype>,
    to: &Path,
    warn: &mut dyn FnMut(String),
) -> Result<(Loaded, weights::Converted)> {
    let device = Device::new(Plan::new(Precision::Fp32));
    let loaded = empty(&from.join("config.json"), &device, ModelOptions::default())?;
    let converted = weights::convert(from, &wanted(&loaded.parameters), dtype, to, warn)?;
    Ok((loaded, converted))
}

/// What a checkpoint has to hold for these parameters.
fn wanted(parameters: &Parameters) -> Vec<Wanted> {
    let wanted = parameters.entries.iter().map(|entry| Wanted {
        name: entry.name.clone(),
        shape: entry.shape.dims().to_vec(),
        aliases: entry.aliases.clone(),
        optional: !entry.trainable,
    });
    wanted.collect()
}

/// A fresh model for the configuration file `config`, its weights drawn from `seed` as HF does.
pub fn random(config: &Path, device: &Device, options: ModelOptions, seed: u64) -> Result<Loaded> {
    let loaded = empty(config, device, options)?;
    let std = loaded.config.common().init_std;
    let mut rng = rand_mt::Mt64::new(seed);
    for entry in &loaded.parameters.entries {
        let mut values = match entry.init {
            Init::Zeros | Init::Sinusoids => continue,
            Init::Ones => vec![1.0; entry.shape.len()],
            Init::Normal | Init::Embedding { .. } => normal(&mut rng, entry.shape.len(), std),
        };
        if let Init::Embedding { pad } = entry.init {
            let c = entry.shape.last();
            values[pad * c..(pad + 1) * c].fill(0.0);
        }
        loaded.parameters.write(entry, &values)?;
    }
    loaded.parameters.refresh()?;
    Ok(loaded)
}

/// The limits of the model of configuration file `config`, which is not made.
pub fn limits(config: &Path) -> Result<ModelLimits> {
    Ok(read_config(config)?.0.limits())
}

/// A model of zeros, but for its constants, for the configuration file `config`.
pub(super) fn empty(config: &Path, device: &Device, options: ModelOptions) -> Result<Loaded> {
    let (config, config_text) = read_config(config)?;
    build(config, config_text, device, options)
}

/// As [`empty`], for the text of a configuration; `at` names it in errors.
pub(super) fn from_text(at: &str, text: String, device: &Device, options: ModelOptions) -> Result<Loaded> {
    build(parse_config(at, &text)?, text, device, options)
}

fn build(
    config: Rc<dyn Config>,
    config_text: String,
    device: &Device,
    options: ModelOptions,
) -> Result<Loaded> {
    let (model, parameters) = Parameters::build(device, options.weights, |b| config.build(b, options))?;
    let constants: Vec<&Entry> =
        parameters.entries.iter().filter(|entry| entry.init == Init::Sinusoids).collect();
    for entry in &constants {
        parameters.part(&parameters.slab, entry)?.write(&sinusoids(entry.shape.dims2("positions")?))?;
    }
    if !constants.is_empty() {
        parameters.refresh()?;
    }
    Ok(Loaded { config, config_text, model, parameters })
}

/// The table `[P, C]` of [`Init::Sinusoids`], of which an odd C has one sine more.
fn sinusoids([p, c]: [usize; 2]) -> Vec<f32> {
    let sines = c.div_ceil(2);
    let mut table = Vec::with_capacity(p * c);
    for position in 0..p {
        let angle = |i: usize| position as f64 / 10000f64.powf((2 * i) as f64 / c as f64);
        table.extend((0..sines).map(|i| angle(i).sin() as f32));
        table.extend((0..c - sines).map(|i| angle(i).cos() as f32));
    }
    table
}

/// The checked configuration in the file `config`, and its text.
fn read_config(config: &Path) -> Result<(Rc<dyn Config>, String)> {
    let config_text = std::fs::read_to_string(config).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            let usual = "no such file; a model directory holds config.json and model.safetensors";
            match (config.parent(), config.file_name().and_then(|name| name.to_str())) {
                (Some(dir), Some(name)) => hub::lacks(dir, name, usual),
                _ => Error::missing(config, usual),
            }
        }
        _ => Error::read(config, &e),
    })?;
    if let Some(what) = hub::recognise(config_text.as_bytes()) {
        return Err(Error::data(config.display(), what));
    }
    Ok((parse_config(&config.display().to_string(), &config_text)?, config_text))
}

/// `n` normal values by Box and Muller.
fn normal(rng: &mut rand_mt::Mt64, n: usize, std: f32) -> Vec<f32> {
    let mut uniform = || (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    (0..n)
        .map(|_| {
            let radius = (-2.0 * (1.0 - uniform()).ln()).sqrt();
            (radius * (std::f64::consts::TAU * uniform()).cos()) as f32 * std
        })
        .collect()
}
