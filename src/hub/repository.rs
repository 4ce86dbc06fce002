//! A repository of models by its name, and its snapshot in the cache.

use super::cache::revisions;
use super::embedded;
use crate::error::{Error, Result};
use std::path::{Component, Path, PathBuf};

/// A repository of models and one of its revisions.
#[derive(Debug, PartialEq)]
pub struct Repository<'a> {
    pub id: &'a str,
    /// A branch, a tag, a pull request (`refs/pr/2`) or a commit.
    pub revision: &'a str,
}

impl<'a> Repository<'a> {
    pub fn parse(name: &'a str) -> Option<Self> {
        let (id, revision) = name.split_once('@').unwrap_or((name, "main"));
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_name = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                && part.chars().all(fits)
                && !part.contains("--")
                && !part.contains("..")
        };
        let names = id.split('/').count() <= 2 && id.split('/').all(is_name);
        let inside = Path::new(revision).components().all(|part| matches!(part, Component::Normal(_)));
        (names && inside && !revision.is_empty()).then_some(Repository { id, revision })
    }

    /// The folder of the revision, whose files are links into the cache's blobs.
    pub fn snapshot(&self, cache: Option<&Path>) -> Result<PathBuf> {
        let Some(cache) = cache else {
            let what =
                "there is no such folder, and no HF_HUB_CACHE, HF_HOME or HOME says where the cache is";
            return Err(Error::missing(self.id, what));
        };
        let folder = cache.join(format!("models--{}", self.id.replace('/', "--")));
        let commit = match std::fs::read_to_string(folder.join("refs").join(self.revision)) {
            Ok(commit) => commit.trim().to_string(),
            Err(_) => self.revision.to_string(),
        };
        let is_commit = !commit.is_empty() && commit.chars().all(|c| c.is_ascii_alphanumeric());
        let snapshot = folder.join("snapshots").join(&commit);
        match is_commit && snapshot.is_dir() {
            true => Ok(snapshot),
            false => Err(self.absent(&folder)),
        }
    }

    fn absent(&self, folder: &Path) -> Error {
        let Repository { id, revision } = self;
        let which = match *revision {
            "main" => String::new(),
            revision => format!(" --revision {revision}"),
        };
        let others = revisions(folder);
        let have = match others.is_empty() {
            true => String::new(),
            false => format!(" (the cache has {id}@{})", others.join(&format!(", {id}@"))),
        };
        let embedded = match id.contains('/') {
            true => String::new(),
            false => format!(" or one of the embedded {}", embedded::names()),
        };
        let what = format!(
            "there is no such folder, and revision {revision} of this repository is not at {}{have}; \
             wattention fetches nothing: run `hf download {id}{which}` where there is a network, \
             or name a model directory{embedded}",
            folder.display()
        );
        Error::missing(id, what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn parsed(name: &str) -> Option<(&str, &str)> {
        Repository::parse(name).map(|repository| (repository.id, repository.revision))
    }

    #[test]
    fn names_of_repositories_and_of_nothing_else() {
        let led = "allenai/led-base-16384";
        assert_eq!(parsed(led), Some((led, "main")));
        assert_eq!(parsed("allenai/led-base-16384@refs/pr/2"), Some((led, "refs/pr/2")));
        assert_eq!(parsed("gpt2@v1.0"), Some(("gpt2", "v1.0")));
        for name in [
            "", "/led", "./led", "../led", "a/b/c", "a/", "a//b", "a b", "a/..", "led@", "led@../x", "a--b/c",
        ] {
            assert_eq!(parsed(name), None, "{name:?}");
        }
        assert_eq!(parsed("led@/etc"), None);
    }

    #[test]
    fn a_revision_is_a_ref_or_a_commit() {
        let cache = tempfile::tempdir().unwrap();
        let folder = cache.path().join("models--org--name");
        for commit in ["0a1b", "2c3d"] {
            fs::create_dir_all(folder.join("snapshots").join(commit)).unwrap();
        }
        fs::create_dir_all(folder.join("refs/refs/pr")).unwrap();
        fs::write(folder.join("refs/main"), "0a1b\n").unwrap();
        fs::write(folder.join("refs/refs/pr/2"), "2c3d").unwrap();
        fs::write(folder.join("refs/evil"), "../../..").unwrap();
        let found = |name: &str| Repository::parse(name).unwrap().snapshot(Some(cache.path()));
        for (name, commit) in [
            ("org/name", "0a1b"),
            ("org/name@main", "0a1b"),
            ("org/name@refs/pr/2", "2c3d"),
            ("org/name@2c3d", "2c3d"),
        ] {
            assert_eq!(found(name).unwrap(), folder.join("snapshots").join(commit), "{name}");
        }
        for name in ["org/name@v2", "org/name@evil", "org/other"] {
            let error = found(name).unwrap_err();
            assert_eq!(error.exit_code(), 66);
            assert!(error.to_string().contains("`hf download org/"), "{error}");
        }
        let message = found("org/name@v2").unwrap_err().to_string();
        assert!(message.contains("--revision v2") && message.contains("org/name@2c3d"), "{message}");
    }
}
