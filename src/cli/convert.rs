//! `convert`: a model as it lies on the hub, as one folder of safetensors and tokenizer.json.

use super::choices;
use super::global::Global;
use crate::error::{Error, Result};
use crate::files;
use crate::generate::decides_text;
use crate::hub::Name;
use crate::models::{self, LedShape, ModelLimits};
use crate::text::{Source, Tokenizer};
use crate::units::Bytes;
use crate::weights::{self, Dtype};
use serde::Serialize;
use serde_json::{Map, Value};
use std::io::{ErrorKind, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

mod folder;
mod led;

use folder::{Existing, Folder};

/// Write a model as safetensors with a tokenizer.json, from PyTorch files, shards or older tokenizer files
///
/// Reads pytorch_model.bin or model.safetensors, in one piece or in shards; of a PyTorch file only the tensors are
/// read, and nothing in it is run. Writes model.safetensors (tied weights once), tokenizer.json (made of vocab.json
/// and merges.txt or of spiece.model if there is none), generation_config.json and, last, config.json. The folder
/// appears when all of it is written. Other commands take such models as they are; converting makes them start
/// faster and lets other programs read them.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[arg(long, value_name = "DIR_OR_NAME", help = choices::models())]
    model: Name,

    /// Folder to write, which must be empty or not exist yet
    #[arg(long, value_name = "DIR")]
    output_dir: PathBuf,

    /// Number format of the weights [default: each tensor keeps its own; float64 becomes fp32]
    #[arg(long, value_name = "fp32|bf16|fp16", value_parser = format)]
    dtype: Option<Format>,

    /// Make a LED of a BART, which then reads longer inputs: its encoder's positions are repeated, and its attention's
    /// projections are also those of the global attention (Beltagy et al. 2020)
    #[arg(long, value_name = "led", value_parser = ["led"])]
    to: Option<String>,

    /// Tokens that the LED's encoder has positions for
    #[arg(long, value_name = "TOKENS", default_value = "16384", requires = "to")]
    max_positions: NonZeroUsize,

    /// Tokens that each token of the LED sees, both sides together
    #[arg(long, value_name = "TOKENS", default_value = "1024", requires = "to")]
    attention_window: NonZeroUsize,

    /// Replace the model in a folder that is not empty; its other files stay
    #[arg(long)]
    overwrite_output_dir: bool,
}

/// A number format of weights: its name here, HF's, and its type.
type Format = (&'static str, &'static str, Dtype);

const FORMATS: [Format; 3] =
    [("fp32", "float32", Dtype::F32), ("bf16", "bfloat16", Dtype::BF16), ("fp16", "float16", Dtype::F16)];

fn format(name: &str) -> Result<Format, String> {
    let found = FORMATS.into_iter().find(|format| format.0 == name);
    found.ok_or_else(|| "it may be fp32, bf16 or fp16".into())
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    model: Name,
    output_dir: PathBuf,
    /// The file that the weights were read from, or the index of their shards.
    weights: String,
    tensors: usize,
    /// Elements of all tensors.
    elements: usize,
    /// Length of model.safetensors.
    bytes: Bytes,
    /// The file that tokenizer.json is, or was made of; none if the model has no tokenizer.
    tokenizer: Option<String>,
    files: Vec<String>,
}

/// Settings of the tokenizer that other programs read, copied as they are.
const COMPANIONS: [&str; 4] =
    ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"];

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    let original = args.model.open()?;
    let existing = match args.overwrite_output_dir {
        true => Existing::Replace,
        false => Existing::Refuse,
    };
    let folder = Folder::start(&args.output_dir, existing, &original)?;
    let shape = LedShape { positions: args.max_positions.get(), window: args.attention_window.get() };
    let made = args.to.as_ref().map(|_| led::folder(&original, shape, folder.path())).transpose()?;
    let from = made.as_ref().map_or(&*original, |made| made.path());
    let (to, mut written) = (folder.path(), vec!["model.safetensors".to_string()]);

    let mut warn = |text| global.warn(text);
    let dtype = args.dtype.map(|(_, _, dtype)| dtype);
    let (loaded, converted) = models::convert(from, dtype, to, &mut warn)?;
    let tokenizer = tokenizer(from, &loaded.model.limits())?;
    match &tokenizer {
        Some(source) => {
            let json = source.json()?;
            files::replace(&to.join("tokenizer.json"), |file| file.write_all(json.as_bytes()))?;
            written.push("tokenizer.json".into());
        }
        None => global.warn(format_args!("{} has no tokenizer: none is written", original.display())),
    }
    for name in COMPANIONS {
        match std::fs::read(from.join(name)) {
            Ok(content) => files::replace(&to.join(name), |file| file.write_all(&content))?,
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => return Err(Error::read(from.join(name), &e).into()),
        }
        written.push(name.into());
    }
    let config = parsed(&from.join("config.json"), &loaded.config_text)?;
    files::write_text(&to.join("generation_config.json"), &generation(from, &config)?)?;
    // Where types are mixed, the configuration names one, if any, which is right for some.
    let format = FORMATS.into_iter().find(|(_, _, dtype)| converted.dtype == Some(*dtype));
    let text = format.map_or(Ok(loaded.config_text.clone()), |(_, name, _)| loaded.config_beside(name))?;
    files::write_text(&to.join("config.json"), &text)?;
    written.extend(["generation_config.json".into(), "config.json".into()]);
    folder.finish(&written)?;

    let (_, entry) =
        weights::entry(&original).ok_or_else(|| Error::internal("the weights were read and are gone"))?;
    let report = Report {
        model: args.model,
        output_dir: args.output_dir,
        weights: entry.into(),
        tensors: converted.tensors,
        elements: converted.elements,
        bytes: Bytes(converted.bytes),
        tokenizer: tokenizer.map(|source| name_of(&source.path)),
        files: written,
    };
    let text = report.text();
    global.print(&report, text)
}

impl Report {
    fn text(&self) -> String {
        let Report { tensors, elements, bytes, weights, .. } = self;
        let made = match self.tokenizer.as_deref() {
            None => "no tokenizer".to_string(),
            Some("tokenizer.json") => "tokenizer.json with the tokens of the files beside it".to_string(),
            Some("vocab.json") => "tokenizer.json made of vocab.json and merges.txt".to_string(),
            Some(file) => format!("tokenizer.json made of {file}"),
        };
        let to = self.output_dir.display();
        format!("{tensors} tensors, {elements} elements, {bytes}, from {weights}; {made}: {to}")
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The model's tokenizer, which must work and fit its vocabulary; none if it has none.
fn tokenizer(from: &Path, limits: &ModelLimits) -> Result<Option<Source>> {
    let source = match Source::read(from) {
        Ok(source) => source,
        Err(Error::Missing { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    Tokenizer::of(source.clone())?.check_vocabulary(limits.vocab)?;
    Ok(Some(source))
}

fn parsed(path: &Path, text: &str) -> Result<Map<String, Value>> {
    serde_json::from_str(text).map_err(|e| Error::data(path.display(), e.to_string()))
}

/// `generation_config.json` of the model, or else the settings of generation in its older config.json.
fn generation(from: &Path, config: &Map<String, Value>) -> Result<String> {
    let path = from.join("generation_config.json");
    match std::fs::read_to_string(&path) {
        Ok(text) => return parsed(&path, &text).map(|_| text),
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(Error::read(path, &e)),
    }
    let mut generation = Map::from_iter([("_from_model_config".to_string(), Value::from(true))]);
    let given = config.iter().filter(|(key, value)| decides_text(key) && !value.is_null());
    generation.extend(given.map(|(key, value)| (key.clone(), value.clone())));
    pretty(&generation)
}

fn pretty(object: &Map<String, Value>) -> Result<String> {
    let text = serde_json::to_string_pretty(object)
        .map_err(|e| Error::internal(format!("a configuration is not JSON: {e}")))?;
    Ok(text + "\n")
}
