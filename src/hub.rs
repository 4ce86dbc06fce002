//! Models by the name of their Hugging Face repository, in the cache that other programs filled; nothing is fetched.

pub mod embedded;

use crate::error::{Error, Result};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// What a file that is no model file looks like, from its first bytes: what broken downloads leave.
pub fn recognise(head: &[u8]) -> Option<&'static str> {
    // Binary files may begin with bytes that are white space and a bracket, but not with these words.
    const PAGES: [&[u8]; 7] = [b"<!", b"<?", b"<html", b"<HTML", b"<head", b"<HEAD", b"<Error"];
    let text = head.trim_ascii_start();
    if head.is_empty() {
        Some("the file is empty; download it again")
    } else if head.starts_with(b"version https://git-lfs") {
        Some("this is a git-lfs pointer, not the file itself; run git lfs pull")
    } else if PAGES.iter().any(|page| text.starts_with(page)) {
        Some("this is an HTML or XML page, not a model file; download the file itself")
    } else {
        None
    }
}

/// The directory of a model: a local folder of this name, a model inside the program, or else the repository
/// `[ORG/]NAME[@REVISION]` in the cache.
///
/// A name that can be no repository is given back as it is, for whoever opens it to refuse.
pub fn directory(name: &Path) -> Result<PathBuf> {
    if name.exists() {
        return Ok(name.to_path_buf());
    }
    if let Some(model) = name.to_str().and_then(embedded::named) {
        return model.unpacked();
    }
    match name.to_str().and_then(Repository::parse) {
        Some(repository) => repository.snapshot(cache(|key| std::env::var_os(key)).as_deref()),
        None => Ok(name.to_path_buf()),
    }
}

/// Where huggingface_hub keeps its downloads, by its own environment variables.
fn cache(variable: impl Fn(&str) -> Option<OsString> + Copy) -> Option<PathBuf> {
    let folder = |key: &str| variable(key).filter(|value| !value.is_empty()).map(PathBuf::from);
    folder("HF_HUB_CACHE")
        .or_else(|| folder("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| Some(folder("HF_HOME")?.join("hub")))
        .or_else(|| Some(caches(variable)?.join("huggingface/hub")))
}

/// Where programs keep their caches.
fn caches(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let folder = |key: &str| variable(key).filter(|value| !value.is_empty()).map(PathBuf::from);
    folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))
}

/// A repository of models and one of its revisions.
#[derive(Debug, PartialEq)]
struct Repository<'a> {
    id: &'a str,
    /// A branch, a tag, a pull request (`refs/pr/2`) or a commit.
    revision: &'a str,
}

impl<'a> Repository<'a> {
    fn parse(name: &'a str) -> Option<Self> {
        let (id, revision) = name.split_once('@').unwrap_or((name, "main"));
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_name = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') && part.chars().all(fits)
        };
        let names = id.split('/').count() <= 2 && id.split('/').all(is_name);
        let inside = Path::new(revision).components().all(|part| matches!(part, Component::Normal(_)));
        (names && inside && !revision.is_empty()).then_some(Repository { id, revision })
    }

    /// The folder of the revision, whose files are links into the cache's blobs.
    fn snapshot(&self, cache: Option<&Path>) -> Result<PathBuf> {
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
        let what = format!(
            "there is no such folder, and revision {revision} of this repository is not at {}{have}; \
             wattention fetches nothing: run `hf download {id}{which}` where there is a network, \
             or name a model directory",
            folder.display()
        );
        Error::missing(id, what)
    }
}

/// The commits that the cache has of a repository, in order.
fn revisions(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder.join("snapshots")).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
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
        for name in ["", "/led", "./led", "../led", "a/b/c", "a/", "a//b", "a b", "a/..", "led@", "led@../x"]
        {
            assert_eq!(parsed(name), None, "{name:?}");
        }
        assert_eq!(parsed("led@/etc"), None);
    }

    #[test]
    fn the_variables_of_huggingface_hub_in_their_order() {
        let all = [
            ("HF_HUB_CACHE", "/a"),
            ("HUGGINGFACE_HUB_CACHE", "/b"),
            ("HF_HOME", "/c"),
            ("XDG_CACHE_HOME", "/d"),
            ("HOME", "/e"),
        ];
        let wanted = ["/a", "/b", "/c/hub", "/d/huggingface/hub", "/e/.cache/huggingface/hub"];
        for (from, want) in wanted.iter().enumerate() {
            let set = |key: &str| {
                let (_, value) = all[from..].iter().find(|(name, _)| *name == key)?;
                Some(OsString::from(value))
            };
            assert_eq!(cache(set).unwrap(), Path::new(want));
        }
        assert_eq!(cache(|_| None), None);
        assert_eq!(cache(|key| (key == "HF_HOME").then(OsString::new)), None);
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
