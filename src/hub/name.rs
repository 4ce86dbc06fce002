//! A model as the user names it, and the folder that the name stands for: two types, so that no name is opened as a path.

use super::repository::Repository;
use super::{cache, embedded};
use crate::error::{Error, Result};
use serde::{Serialize, Serializer};
use std::ffi::OsString;
use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};

/// A model as the user names it: a folder, an embedded model, or a repository `[ORG/]NAME[@REVISION]` in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(PathBuf);

/// A folder that is there and should hold a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder(PathBuf);

impl Name {
    /// The folder: a local one of this name, or else that of the embedded model, or else the repository's snapshot.
    pub fn open(&self) -> Result<Folder> {
        let Name(path) = self;
        if path.is_dir() {
            return Ok(Folder(path.clone()));
        }
        if path.exists() {
            let folder = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
            let what = format!("a file, and a model is a folder; give its folder, {}", folder.display());
            return Err(Error::missing(path, what));
        }
        if let Some(model) = path.to_str().and_then(embedded::named) {
            return model.unpacked().map(Folder);
        }
        match path.to_str().and_then(Repository::parse) {
            Some(repository) if embedded::named(repository.id).is_some() => {
                let what = format!(
                    "{} is inside the program, and has no revisions; give its name alone",
                    repository.id
                );
                Err(Error::missing(path, what))
            }
            Some(repository) => repository.snapshot(cache::folder().as_deref()).map(Folder),
            None => Err(Error::missing(path, format!("no such folder; {}", self.hint()))),
        }
    }

    /// A name for `dir`, which this one stands for, that holds in any folder; none where that is its path.
    pub fn lasting(&self, dir: &Path) -> Option<String> {
        let text = self.0.to_str()?;
        if dir == self.0 {
            return None;
        }
        if let Some(model) = embedded::named(text) {
            return Some(model.name.to_string());
        }
        // The revision may come to name another commit.
        let commit = dir.file_name()?.to_string_lossy();
        Some(format!("{}@{commit}", text.split('@').next().unwrap_or(text)))
    }

    /// The name as the user wrote it, to be shown.
    pub fn as_written(&self) -> &Path {
        &self.0
    }

    /// Whether the name alone says where `dir`, which it stands for, is: a path, or inside the program.
    pub fn says_where(&self, dir: &Path) -> bool {
        dir == self.0 || self.0.to_str().is_some_and(|name| embedded::named(name).is_some())
    }

    /// What a name that is neither a folder nor a repository was probably meant to be.
    fn hint(&self) -> String {
        const HOSTS: [&str; 4] = ["huggingface.co/", "www.huggingface.co/", "hf.co/", "hf://"];
        let text = self.0.to_string_lossy();
        let bare = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(&text);
        if let Some(path) = HOSTS.iter().find_map(|start| bare.strip_prefix(start)) {
            let id = path.split('/').take(2).collect::<Vec<_>>().join("/");
            return format!("write the repository as {id}, once `hf download {id}` has fetched it");
        }
        if let Some(id) = text.strip_prefix("models--") {
            return format!(
                "the cache keeps a repository in a folder of this name; write {}",
                id.replacen("--", "/", 1)
            );
        }
        if text.starts_with('~') || text.contains('$') {
            return "~ and $ are the shell's to expand: write the path out".to_string();
        }
        format!(
            "give a folder with config.json, a repository in the Hugging Face cache as ORG/NAME[@REVISION], or one of \
             the embedded {}",
            embedded::names()
        )
    }
}

impl Folder {
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Deref for Folder {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl From<OsString> for Name {
    fn from(name: OsString) -> Self {
        Name(name.into())
    }
}

impl From<&str> for Name {
    fn from(name: &str) -> Self {
        Name(name.into())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_files_embedded_models_and_what_is_none_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("model.safetensors");
        std::fs::write(&file, "").unwrap();
        let name = |path: &Path| Name::from(path.as_os_str().to_os_string());
        assert_eq!(name(dir.path()).open().unwrap().path(), dir.path());
        let refusal = name(&file).open().unwrap_err();
        assert!(
            refusal.to_string().ends_with(&format!("give its folder, {}", dir.path().display())),
            "{refusal}"
        );
        for (name, says) in [
            ("tiny-led@main", "no revisions"),
            ("https://huggingface.co/allenai/led-base-16384/tree/main", "as allenai/led-base-16384,"),
            ("http://hf.co/acme/led", "as acme/led,"),
            ("models--acme--led", "write acme/led"),
            ("~/models/led", "~ and $"),
            ("/no/such/folder", "tiny-led"),
            ("./tiny-led", "tiny-led"),
        ] {
            let refusal = Name::from(name).open().unwrap_err();
            assert_eq!(refusal.exit_code(), 66);
            assert!(refusal.to_string().contains(says), "{refusal}");
        }
    }

    #[test]
    fn an_embedded_model_is_a_folder_with_its_files() {
        for model in embedded::ALL {
            let folder = Name::from(model.name).open().unwrap();
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights").join(model.name);
            for file in ["config.json", "model.safetensors", "tokenizer.json"] {
                assert!(
                    std::fs::read(folder.join(file)).unwrap() == std::fs::read(source.join(file)).unwrap()
                );
            }
        }
    }
}
