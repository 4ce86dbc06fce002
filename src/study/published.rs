//! Where a study's models and datasets lie, and what is known of published checkpoints that are not here.

use crate::data::{self, Dataset, RecordFormat};
use crate::error::{Error, Result};
use crate::files;
use crate::hub::{Name, embedded};
use crate::models;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// A checkpoint whose shapes are known without its files.
struct Published {
    /// How the last part of its repository's name begins.
    name: &'static str,
    /// What decides shapes in its config.json.
    config: &'static str,
    /// Files of the repository that a study needs.
    files: &'static str,
}

const LED_FILES: &str = "config.json, vocab.json, merges.txt and pytorch_model.bin (or model.safetensors)";
const BIGBIRD_FILES: &str =
    "config.json, tokenizer.json (or spiece.model) and pytorch_model.bin (or model.safetensors)";

static PUBLISHED: [Published; 3] = [
    Published {
        name: "led-base-16384",
        config: include_str!("published/led-base-16384.json"),
        files: LED_FILES,
    },
    Published {
        name: "led-large-16384",
        config: include_str!("published/led-large-16384.json"),
        files: LED_FILES,
    },
    // The three that Google published differ in their weights alone.
    Published {
        name: "bigbird-pegasus-large-",
        config: include_str!("published/bigbird-pegasus-large.json"),
        files: BIGBIRD_FILES,
    },
];

fn published(model: &str) -> Option<&'static Published> {
    let name = model.rsplit('/').next().unwrap_or(model);
    let name = name.split('@').next().unwrap_or(name);
    let repository = ["allenai/", "google/"].iter().any(|by| model.starts_with(by));
    PUBLISHED.iter().find(|known| repository && name.starts_with(known.name))
}

/// Folders in which models and datasets are looked for before anywhere else.
#[derive(Debug, Clone, Default)]
pub struct Places {
    pub models: Option<PathBuf>,
    pub data: Option<PathBuf>,
}

impl Places {
    /// A model's directory; embedded models are written under `unpacked`, which may be shared by processes.
    pub fn model(&self, name: &str, unpacked: &Path) -> Result<PathBuf> {
        match self.own_model(name) {
            Some(dir) => Ok(dir),
            None => match embedded::named(name) {
                Some(model) => {
                    let dir = unpacked.join(name);
                    model.unpack(&dir)?;
                    Ok(dir)
                }
                None => Ok(Name::from(name).open()?.path().to_path_buf()),
            },
        }
    }

    /// A model's config.json, or for a published checkpoint that is not here what is known of it.
    pub fn config(&self, name: &str, unpacked: &Path) -> Result<PathBuf> {
        let found = self.model(name, unpacked).map(|dir| dir.join("config.json"));
        match (found, published(name)) {
            (Ok(config), _) if config.is_file() => Ok(config),
            (_, Some(known)) => {
                let dir = unpacked.join("published").join(known.name);
                files::create_dir(&dir)?;
                files::write_text(&dir.join("config.json"), known.config)?;
                Ok(dir.join("config.json"))
            }
            (found, None) => found,
        }
    }

    /// The dataset `name`; `reading` is of those that are files.
    pub fn dataset(&self, name: &str, reading: &RecordFormat) -> Result<Dataset> {
        let path = self.dataset_path(name);
        data::open_as(&path, if data::is_embedded(&path) { RecordFormat::default() } else { reading.clone() })
    }

    /// What [`data::open`] finds the dataset `name` by.
    pub(super) fn dataset_path(&self, name: &str) -> String {
        let own = self.data.as_ref().map(|dir| dir.join(name));
        let zip = self.data.as_ref().map(|dir| dir.join(format!("{name}.zip")));
        match own.into_iter().chain(zip).find(|path| path.exists()) {
            Some(path) => path.to_string_lossy().into_owned(),
            None => name.into(),
        }
    }

    /// Whether a model has an attention window; one that cannot be found is left to its cell.
    pub fn has_window(&self, name: &str) -> Result<bool> {
        let scratch = scratch()?;
        let text = self.config(name, scratch.path()).ok().and_then(|path| std::fs::read_to_string(path).ok());
        let family = text.and_then(|text| models::family(name, &text).ok());
        Ok(family.is_none_or(|family| family.window_key.is_some()))
    }

    /// Positions of a model's encoder; none of a model that cannot be found.
    pub fn positions(&self, name: &str) -> Option<usize> {
        let scratch = scratch().ok()?;
        let config = self.config(name, scratch.path()).ok()?;
        models::limits(&config).ok().map(|limits| limits.max_source)
    }

    /// Fails with all that the cells need and is not here, and where each file goes.
    pub fn check<'a>(&self, needed: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<()> {
        let scratch = scratch()?;
        let (mut models, mut datasets): (Vec<&str>, Vec<&str>) = needed.into_iter().unzip();
        let mut missing: Vec<(&str, String)> = Vec::new();
        for names in [&mut models, &mut datasets] {
            let mut seen = HashSet::new();
            names.retain(|name| seen.insert(*name));
        }
        for model in models {
            let found = self.model(model, scratch.path());
            if !found.as_ref().is_ok_and(|dir| dir.join("config.json").is_file()) {
                missing.push((model, self.missing_model(model, found)));
            }
        }
        for dataset in datasets {
            match self.dataset(dataset, &RecordFormat::default()) {
                Ok(_) => {}
                Err(Error::Missing { what, .. }) => missing.push((dataset, self.missing_data(dataset, what))),
                Err(error) => return Err(error),
            }
        }
        match missing.as_slice() {
            [] => Ok(()),
            [(name, what)] => Err(Error::missing(name, what)),
            many => {
                let lines: Vec<String> =
                    many.iter().map(|(name, what)| format!("\n  {name}: {what}")).collect();
                Err(Error::missing("the study", format!("it needs what is not here:{}", lines.concat())))
            }
        }
    }

    /// The folder of a model that lies in [`Places::models`].
    pub(super) fn own_model(&self, name: &str) -> Option<PathBuf> {
        let dir = self.models.as_ref()?;
        let last = Path::new(name).file_name()?;
        [dir.join(name), dir.join(last)].into_iter().find(|dir| dir.join("config.json").is_file())
    }

    fn missing_model(&self, name: &str, found: Result<PathBuf>) -> String {
        let Some(known) = published(name) else {
            return match found {
                Ok(dir) => format!(
                    "{} is not there; name a folder with config.json, the tokenizer and the weights",
                    dir.join("config.json").display()
                ),
                Err(Error::Missing { what, .. }) => what,
                Err(error) => error.to_string(),
            };
        };
        let folder = self.models.clone().unwrap_or_default().join(name);
        format!(
            "put {} of this repository into {}/, or run `hf download {name}`",
            known.files,
            folder.display()
        )
    }

    fn missing_data(&self, name: &str, what: String) -> String {
        match data::ALL.iter().any(|known| known.name == name) {
            true => {
                let zip = self.data.clone().unwrap_or_default().join(format!("{name}.zip"));
                format!(
                    "put {name}.zip of the tau/scrolls dataset on the Hugging Face hub at {}",
                    zip.display()
                )
            }
            false => what,
        }
    }
}

/// A folder for a moment.
pub fn scratch() -> Result<tempfile::TempDir> {
    tempfile::tempdir().map_err(|e| Error::output(std::env::temp_dir(), e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Precision;
    use crate::models::session::Session;
    use crate::study::presets;

    #[test]
    fn published_shapes_have_the_published_parameters() {
        let scratch = scratch().unwrap();
        // Of the released checkpoints, whose files are as long as these many floats.
        for (name, parameters) in presets::MODELS.into_iter().zip([161_844_480, 459_801_600, 576_891_904]) {
            let config = Places::default().config(name, scratch.path()).unwrap();
            let session = Session::dry_run(&config, Precision::Fp32, Default::default(), |_| Ok(())).unwrap();
            assert_eq!(session.real().loaded.parameters.trainable(), parameters, "{name}");
        }
    }

    #[test]
    fn only_repositories_of_their_makers_are_published() {
        for name in
            ["allenai/led-base-16384", "allenai/led-base-16384@main", "google/bigbird-pegasus-large-arxiv"]
        {
            assert!(published(name).is_some(), "{name}");
        }
        for name in ["led-base-16384", "me/led-base-16384", "allenai/led-tiny", "google/pegasus-large"] {
            assert!(published(name).is_none(), "{name}");
        }
    }

    #[test]
    fn own_folders_come_first() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places { models: Some(dir.path().into()), data: Some(dir.path().into()) };
        let model = dir.path().join("led-base-16384");
        std::fs::create_dir_all(&model).unwrap();
        std::fs::write(model.join("config.json"), "{\"model_type\":\"bigbird_pegasus\"}").unwrap();
        assert_eq!(places.model("allenai/led-base-16384", dir.path()).unwrap(), model);
        assert!(!places.has_window("allenai/led-base-16384").unwrap());
        assert!(Places::default().has_window("allenai/led-base-16384").unwrap());
        let data = dir.path().join("qmsum-slice");
        std::fs::create_dir_all(&data).unwrap();
        let record = r#"{"id":"a","pid":"a","input":"x","output":"y"}"#;
        std::fs::write(data.join("train.jsonl"), record).unwrap();
        let mut lines = 0;
        let mut count = |_| {
            lines += 1;
            Ok(())
        };
        places
            .dataset("qmsum-slice", &RecordFormat::default())
            .unwrap()
            .visit(crate::data::Split::Train, &mut count)
            .unwrap();
        assert_eq!(lines, 1, "the embedded one has more");
    }
}
