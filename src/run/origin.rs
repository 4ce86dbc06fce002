//! Where a run's weights, configuration and tokenizer come from.

use crate::device::Device;
use crate::error::{Error, Result};
use crate::files;
use crate::hub::Name;
use crate::models::{self, Loaded, ModelLimits};
use crate::text::Tokenizer;
use serde::Serialize;
use serde_json::{Map, Value};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Files that go with a model and are not its weights.
const COMPANIONS: [&str; 10] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "chat_template.jinja",
    "generation_config.json",
];

/// A model to start from: its weights, or a configuration whose weights are drawn from the seed.
#[derive(Debug)]
pub struct Origin {
    /// None where the weights are drawn.
    weights: Option<PathBuf>,
    config: PathBuf,
    /// Where the companions are, and the tokenizer unless another one is named.
    folder: PathBuf,
    tokenizer: Option<PathBuf>,
    names: Names,
    /// The repository of the Hugging Face hub that the model is of.
    repository: Option<String>,
    /// The folder of a configuration that was changed, which lasts as long as this.
    changed: Option<TempDir>,
}

/// What a run's `config.json` calls it: names that hold in any folder.
#[derive(Debug, Clone, Default, Serialize)]
struct Names {
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    config_name: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokenizer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attention_window: Option<usize>,
}

impl Origin {
    /// The model called `name`: an embedded one, a folder, or a repository in the Hugging Face cache.
    pub fn model(name: impl Into<Name>) -> Result<Self> {
        let (dir, lasting) = find(&name.into())?;
        let repository = lasting.split_once('@').map(|(repository, _)| repository.to_string());
        // A folder's own name may have an @, too.
        Ok(Origin {
            repository: repository.filter(|_| !Path::new(&lasting).is_dir()),
            ..Origin::of(dir, lasting)
        })
    }

    /// The model in the folder `dir`.
    pub fn folder(dir: &Path) -> Result<Self> {
        let name = absolute(dir)?.to_string_lossy().into_owned();
        Ok(Origin::of(dir.to_path_buf(), name))
    }

    fn of(dir: PathBuf, name: String) -> Self {
        let names = Names { model: Some(name), ..Names::default() };
        let (config, weights) = (dir.join("config.json"), Some(dir.clone()));
        Origin { weights, config, folder: dir, tokenizer: None, names, repository: None, changed: None }
    }

    /// The configuration at `path`, `config.json` in that folder, or that of the model of this name.
    pub fn config_name(path: &Path) -> Result<Self> {
        let (path, lasting) = match path.exists() || path.extension().is_some_and(|end| end == "json") {
            true => (path.to_path_buf(), absolute(path)?),
            false => {
                find(&Name::from(path.as_os_str().to_os_string())).map(|(dir, name)| (dir, name.into()))?
            }
        };
        let (config, folder) = match path.is_dir() {
            true => (path.join("config.json"), path),
            false => (path.clone(), files::folder_of(&path).to_path_buf()),
        };
        let names = Names { config_name: Some(lasting), ..Names::default() };
        Ok(Origin { weights: None, config, folder, tokenizer: None, names, repository: None, changed: None })
    }

    /// The same with the tokenizer called `name`, as [`Origin::model`] finds it.
    pub fn with_tokenizer(mut self, name: impl Into<Name>) -> Result<Self> {
        let (dir, name) = find(&name.into())?;
        self.tokenizer = Some(dir);
        self.names.tokenizer = Some(name);
        Ok(self)
    }

    /// The same weights under a configuration with another attention window; fails for a model that has none.
    pub fn with_window(mut self, window: usize) -> Result<Self> {
        let config = config_with_window(&self.config, window)?;
        let changed = tempfile::tempdir().map_err(|e| Error::output(std::env::temp_dir(), e))?;
        if let Some(weights) = &self.weights {
            link_all(weights, changed.path())?;
            self.weights = Some(changed.path().to_path_buf());
        }
        self.config = changed.path().join("config.json");
        files::write_text(&self.config, &config)?;
        self.names.attention_window = Some(window);
        self.changed = Some(changed);
        Ok(self)
    }

    /// What the base is called: a repository, an embedded model or the name of a folder; None for drawn weights.
    pub(super) fn base(&self) -> Option<String> {
        let name = self.repository.as_ref().or(self.names.model.as_ref())?;
        let path = Path::new(name);
        Some(match path.is_absolute() {
            true => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            false => name.clone(),
        })
    }

    /// The hub's repository of the base, where that is what it was named by.
    pub(super) fn repository(&self) -> Option<&str> {
        self.repository.as_deref()
    }

    /// The folders that the run reads, and must not write to.
    pub fn folders(&self) -> [&Path; 2] {
        [&self.folder, self.tokenizer_folder()]
    }

    /// The model's `config.json`.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// What of the model bounds the settings.
    pub fn limits(&self) -> Result<ModelLimits> {
        models::limits(&self.config)
    }

    pub fn tokenizer(&self) -> Result<Tokenizer> {
        Tokenizer::load(self.tokenizer_folder())
    }

    fn tokenizer_folder(&self) -> &Path {
        self.tokenizer.as_deref().unwrap_or(&self.folder)
    }

    pub(super) fn load(&self, device: &Device, options: models::ModelOptions, seed: u64) -> Result<Loaded> {
        match &self.weights {
            Some(dir) => models::load(dir, device, options),
            None => models::random(&self.config, device, options, seed),
        }
    }

    /// Names and contents of the files that make a saved model usable; of equal names the tokenizer's.
    pub(super) fn companions(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut found: Vec<(String, Vec<u8>)> = Vec::new();
        for from in self.folders() {
            for name in COMPANIONS {
                match fs::read(from.join(name)) {
                    Ok(bytes) => {
                        found.retain(|(known, _)| known != name);
                        found.push((name.into(), bytes));
                    }
                    Err(e) if e.kind() == ErrorKind::NotFound => {}
                    Err(e) => return Err(Error::read(from.join(name), &e)),
                }
            }
        }
        Ok(found)
    }

    /// By the names of `finetune`'s flags.
    pub(super) fn names(&self) -> Result<Map<String, Value>> {
        match serde_json::to_value(&self.names) {
            Ok(Value::Object(names)) => Ok(names),
            _ => Err(Error::internal("the names of a model are not JSON")),
        }
    }
}

/// The folder of the model called `name`, and a name for it that holds in any folder.
fn find(name: &Name) -> Result<(PathBuf, String)> {
    let dir = name.open()?.path().to_path_buf();
    let lasting = match name.lasting(&dir) {
        Some(name) => name,
        None => absolute(&dir)?.to_string_lossy().into_owned(),
    };
    Ok((dir, lasting))
}

/// A path that holds in any folder; links stay, for they may be the only readable name.
pub(super) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Error::read(path, &e))
}

/// The text of the configuration at `path` with the attention window `window`. Fails for a model that has none.
pub fn config_with_window(path: &Path, window: usize) -> Result<String> {
    let text = fs::read_to_string(path).map_err(|e| Error::read(path, &e))?;
    let mut config: Map<String, Value> =
        serde_json::from_str(&text).map_err(|e| Error::data(path.display(), e.to_string()))?;
    let family = models::family(&path.display().to_string(), &text)?;
    let key = family.window_key.ok_or_else(|| {
        Error::usage(format!("{}: {} has no attention window", path.display(), family.name))
    })?;
    config.insert(key.into(), window.into());
    Ok(Value::Object(config).to_string())
}

/// Makes the files of `from` appear in `to`, but for `config.json`.
fn link_all(from: &Path, to: &Path) -> Result<()> {
    let from = from.canonicalize().map_err(|e| Error::read(from, &e))?;
    for entry in fs::read_dir(&from).map_err(|e| Error::read(&from, &e))? {
        let entry = entry.map_err(|e| Error::read(&from, &e))?;
        let link = to.join(entry.file_name());
        if entry.file_name() != "config.json" {
            std::os::unix::fs::symlink(entry.path(), &link).map_err(|e| Error::output(&link, e))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_in_any_folder() {
        let named = |origin: Origin| origin.names().unwrap();
        assert_eq!(named(Origin::model("tiny-led").unwrap())["model"], "tiny-led");
        let here = std::env::current_dir().unwrap().to_string_lossy().into_owned();
        let windowed = Origin::folder(Path::new("weights/tiny-led")).unwrap().with_window(32).unwrap();
        assert_eq!(windowed.config().file_name().unwrap(), "config.json");
        let text = fs::read_to_string(windowed.config()).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["attention_window"], 32);
        assert_eq!(windowed.folders()[0], Path::new("weights/tiny-led"));
        let names = named(windowed);
        assert_eq!(names["model"], format!("{here}/weights/tiny-led"));
        assert_eq!(names["attention_window"], 32);
        let drawn = Origin::config_name(Path::new("weights/tiny-led/config.json")).unwrap();
        let drawn = named(drawn.with_tokenizer("small-led").unwrap());
        assert_eq!(drawn["config_name"], format!("{here}/weights/tiny-led/config.json"));
        assert_eq!(drawn["tokenizer"], "small-led");
        let by_name = Origin::config_name(Path::new("tiny-led")).unwrap();
        assert_eq!(by_name.config().file_name().unwrap(), "config.json");
        assert_eq!(named(by_name)["config_name"], "tiny-led");
        assert!(drawn.get("model").is_none());
    }
}
