//! The flags of the token cache, and what users hear of it.

use super::super::global::Global;
use std::path::PathBuf;
use wattention::train::token_cache::{Outcome, TokenCache};

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Token cache")]
pub struct Cache {
    /// Where tokenised texts are kept for the next run [default: $XDG_CACHE_HOME/wattention/tokens, or in ~/.cache]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,

    /// Tokenise anew, and keep nothing
    #[arg(long, alias = "overwrite-cache", conflicts_with = "cache_dir")]
    no_cache: bool,
}

impl Cache {
    pub fn open(&self) -> Option<TokenCache> {
        let dir = self.cache_dir.clone().or_else(TokenCache::default_dir);
        dir.filter(|_| !self.no_cache).map(|dir| TokenCache::new(&dir))
    }
}

/// Says what the cache did with a split where that may matter.
pub fn tell(global: &Global, split: &str, outcome: &Outcome) {
    match outcome {
        Outcome::Read => global.detail(format_args!("{split}: tokens from the cache")),
        Outcome::Written => global.detail(format_args!("{split}: tokenised, and kept for the next run")),
        Outcome::Rewritten { path, why } => {
            global.note(format_args!("{split}: tokenised again, for {} was no good: {why}", path.display()));
        }
        Outcome::Unwritten(error) => {
            global.note(format_args!("{split}: tokenised, but not kept for the next run: {error}"));
        }
    }
}
