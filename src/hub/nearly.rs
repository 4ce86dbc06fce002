//! Folders that are nearly a model: what they are instead, and what makes a model of them.

use super::repository::Repository;
use crate::error::Error;
use std::path::Path;

/// Names of files that are spelled out.
const SHOWN: usize = 8;

/// The error of a folder without `file`, which is `usual`: says what the folder is instead.
pub fn lacks(dir: &Path, file: &str, usual: &str) -> Error {
    match std::fs::metadata(dir) {
        Err(error) => return Error::missing(dir.join(file), format!("{error}; name a model directory")),
        Ok(kind) if !kind.is_dir() => {
            let what = "not a directory; name the one that holds config.json and model.safetensors";
            return Error::missing(dir, what);
        }
        Ok(_) => {}
    }
    let path = dir.join(file);
    if path.symlink_metadata().is_ok() {
        let what = format!("a link to a file that is not there{}", again(dir));
        return Error::missing(path, what);
    }
    let names = names(dir);
    let what = adapter(dir, &names)
        .or_else(|| variant(&names))
        .or_else(|| partial(dir, &names))
        .or_else(|| unmerged(&names))
        .or_else(|| foreign(&names))
        .or_else(|| inside(dir, &names));
    Error::missing(path, what.unwrap_or_else(|| usual.to_string()))
}

/// What fetches a damaged download anew.
pub fn again(dir: &Path) -> String {
    format!("; {}", download(dir).unwrap_or("download it, too".into()))
}

/// What fetches the files that a snapshot of the cache lacks.
pub fn download(dir: &Path) -> Option<String> {
    snapshot(dir).map(|(id, commit)| format!("run `hf download {id} --revision {commit}`"))
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// What peft saves: the differences to another model.
fn adapter(dir: &Path, names: &[String]) -> Option<String> {
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    if !has("adapter_config.json") && !has("adapter_model.safetensors") && !has("adapter_model.bin") {
        return None;
    }
    let config = std::fs::read(dir.join("adapter_config.json")).ok();
    let config: Option<serde_json::Value> = config.and_then(|json| serde_json::from_slice(&json).ok());
    let text = |key: &str| config.as_ref().and_then(|config| config[key].as_str()).map(str::to_string);
    let kind = text("peft_type").map_or("an adapter".to_string(), |kind| format!("a {kind} adapter"));
    let base = text("base_model_name_or_path").map_or(String::new(), |base| format!(" of {base}"));
    Some(format!(
        "not there: this folder is {kind}{base}, not a model; merge it first (peft: \
         model.merge_and_unload().save_pretrained(FOLDER)) and give that folder"
    ))
}

/// Weights under another name, as `save_pretrained(variant="fp16")` writes them.
fn variant(names: &[String]) -> Option<String> {
    let stem = |name: &str| {
        let (name, end) = name.rsplit_once('.')?;
        let (start, variant) = name.split_once('.')?;
        let known = matches!((start, end), ("model", "safetensors") | ("pytorch_model", "bin"));
        (known && !variant.contains('.')).then(|| (format!("{start}.{end}"), variant.to_string()))
    };
    let (name, (plain, variant)) = names.iter().find_map(|name| Some((name, stem(name)?)))?;
    Some(format!(
        "not there, but its variant {variant} is: {name}; rename it to {plain}, or link it under that name"
    ))
}

/// A snapshot of the cache without the file.
fn partial(dir: &Path, names: &[String]) -> Option<String> {
    let (id, commit) = snapshot(dir)?;
    Some(format!(
        "not in the cache, which has only {} of {id} at {commit}; run `hf download {id} --revision {commit}`",
        listed(names)
    ))
}

/// The repository and the commit of a folder `models--*/snapshots/<commit>`.
fn snapshot(dir: &Path) -> Option<(String, String)> {
    let commit = dir.file_name()?.to_str()?;
    let parent = dir.parent()?;
    if parent.file_name()? != "snapshots" {
        return None;
    }
    let folder = parent.parent()?.file_name()?.to_str()?;
    let id = folder.strip_prefix("models--")?.replace("--", "/");
    Repository::parse(&id)?;
    Some((id, commit.to_string()))
}

/// What a sharded training run leaves.
fn unmerged(names: &[String]) -> Option<String> {
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    if has("zero_to_fp32.py") {
        return Some(
            "not there: this is a checkpoint of DeepSpeed; run `python zero_to_fp32.py . .` in it first"
                .into(),
        );
    }
    let pieces = |name: &String| name.ends_with(".distcp") || name.starts_with("pytorch_model_fsdp");
    let piece = names.iter().find(|name| pieces(name))?;
    Some(format!(
        "not there: this is a checkpoint of FSDP ({piece}); run `accelerate merge-weights` on it first"
    ))
}

/// Weights of other programs.
fn foreign(names: &[String]) -> Option<String> {
    let kind = |name: &str| match name.rsplit_once('.')?.1 {
        "h5" => Some("TensorFlow"),
        "msgpack" => Some("Flax"),
        "gguf" => Some("llama.cpp"),
        "onnx" => Some("ONNX"),
        "ot" => Some("rust-bert"),
        "ckpt" => Some("Lightning or TensorFlow"),
        "pt" | "pth" => Some("PyTorch, under a name that transformers does not read"),
        _ => None,
    };
    if let Some(shard) = names.iter().find(|name| name.contains("-of-") && !name.ends_with(".json")) {
        return Some(format!(
            "not there: the folder has shards ({shard}) and no index that names them; copy the .index.json beside \
             them, too"
        ));
    }
    let (name, kind) = names
        .iter()
        .filter(|name| !name.starts_with("optimizer") && !name.starts_with("scheduler"))
        .find_map(|name| Some((name, kind(name)?)))?;
    Some(format!(
        "not there: the weights are of {kind} ({name}); load them with the program that wrote them and save them as \
         model.safetensors (transformers: save_pretrained)"
    ))
}

/// Models that lie one folder further.
fn inside(dir: &Path, names: &[String]) -> Option<String> {
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    if has("snapshots") && has("blobs") {
        let folder = dir.file_name()?.to_str()?;
        let id = folder.strip_prefix("models--")?.replace("--", "/");
        return Some(format!("not there: this is the cache of a repository; give its name, {id}"));
    }
    let is_model = |name: &&String| dir.join(name).join("config.json").is_file();
    let models: Vec<String> = names.iter().filter(is_model).cloned().collect();
    match models.is_empty() {
        true => None,
        false => {
            Some(format!("not there, but in these folders of it: {}; give one of them", listed(&models)))
        }
    }
}

fn listed(names: &[String]) -> String {
    let mut text = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if names.is_empty() {
        text = "nothing".into();
    }
    if names.len() > SHOWN {
        text += &format!(" and {} more", names.len() - SHOWN);
    }
    text
}
