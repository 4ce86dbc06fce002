//! Where huggingface_hub keeps its downloads, by its own environment variables.

use super::environment::{expand, home};
use std::path::{Path, PathBuf};

/// The cache of repositories; none where no variable and no home says where it is.
pub fn folder() -> Option<PathBuf> {
    by(|key| std::env::var(key).ok())
}

/// Where wattention keeps what it can make again; none where neither `XDG_CACHE_HOME` nor a home says where.
pub fn own() -> Option<PathBuf> {
    let variable = |key: &str| std::env::var(key).ok();
    let named = variable("XDG_CACHE_HOME").map(|caches| PathBuf::from(expand(&caches, &variable)));
    let caches = named.filter(|caches| caches.is_absolute());
    let caches = caches.or_else(|| Some(PathBuf::from(home(&variable)? + "/.cache")))?;
    Some(caches.join("wattention")).filter(|own| own.is_absolute())
}

/// As `huggingface_hub.constants` has it: an empty variable is a relative path, and `HF_HOME` is expanded again as a
/// part of the default of `HF_HUB_CACHE`.
fn by(variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let join = |folder: &str, name: &str| Path::new(folder).join(name).to_string_lossy().into_owned();
    let cache = match variable("HF_HUB_CACHE").or_else(|| variable("HUGGINGFACE_HUB_CACHE")) {
        Some(cache) => cache,
        None => {
            let home = match (variable("HF_HOME"), variable("XDG_CACHE_HOME")) {
                (Some(home), _) => home,
                (None, Some(caches)) => join(&caches, "huggingface"),
                (None, None) => format!("{}/.cache/huggingface", home(&variable)?),
            };
            join(&expand(&home, &variable), "hub")
        }
    };
    Some(PathBuf::from(expand(&cache, &variable)))
}

/// The commits that the cache has of a repository, in order.
pub fn revisions(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder.join("snapshots")).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(set: &[(&str, &str)]) -> Option<String> {
        let variable =
            |key: &str| set.iter().find(|(name, _)| *name == key).map(|(_, value)| value.to_string());
        by(variable).map(|path| path.to_str().unwrap().to_string())
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
            assert_eq!(found(&all[from..]).as_deref(), Some(*want));
        }
    }

    /// Each right side is `huggingface_hub.constants.HF_HUB_CACHE` of version 1 under these variables.
    #[test]
    fn variables_are_expanded_as_python_does() {
        let home = ("HOME", "/h/");
        for (set, want) in [
            (vec![("HF_HOME", "~/hf"), home], "/h/hf/hub"),
            (vec![("HF_HOME", "$HOME/hf"), home], "/h//hf/hub"),
            (vec![("HF_HOME", "${X}/hf"), ("X", "/x"), home], "/x/hf/hub"),
            (vec![("HF_HOME", "${X}/$Y/hf"), ("Y", "$X"), home], "${X}/$X/hf/hub"),
            (vec![("HF_HOME", "${X}/$Y/hf"), ("X", "/x"), ("Y", "$X"), home], "/x//x/hf/hub"),
            (vec![("HF_HUB_CACHE", ""), ("HUGGINGFACE_HUB_CACHE", "/b")], ""),
            (vec![("HF_HUB_CACHE", "~"), home], "/h"),
            (vec![("HUGGINGFACE_HUB_CACHE", "~/a$X"), ("X", "b"), home], "/h/ab"),
            (vec![("XDG_CACHE_HOME", "~/c"), home], "/h/c/huggingface/hub"),
            (vec![("XDG_CACHE_HOME", "$D"), ("D", "/d"), home], "/d/huggingface/hub"),
            (vec![("HF_HOME", ""), home], "hub"),
            (vec![("HF_HUB_CACHE", ""), home], ""),
            (vec![("XDG_CACHE_HOME", ""), home], "huggingface/hub"),
            (vec![("HF_HOME", "~nobody-of-this-name/x"), home], "~nobody-of-this-name/x/hub"),
            (vec![("HOME", "")], "/.cache/huggingface/hub"),
        ] {
            assert_eq!(found(&set).as_deref(), Some(want), "{set:?}");
        }
    }
}
