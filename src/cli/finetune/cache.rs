//! The flags of the token cache.

use crate::train::token_cache::TokenCache;
use std::path::PathBuf;

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
