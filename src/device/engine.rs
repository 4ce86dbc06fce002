//! Which instructions the products of attention are made of, where a GPU has several.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The kernels that serve window, dense and block-sparse attention in bf16 at head sizes above 32; everything else is the
/// same in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// `mma.sync`, a warp's products: every GPU since compute capability 8.0.
    #[default]
    Mma,
    /// `wgmma`, a warpgroup's products: compute capability 9.0.
    Hopper,
}

impl Engine {
    pub const ALL: [Engine; 2] = [Engine::Mma, Engine::Hopper];

    /// What a GPU of compute capability 9.0 takes where nobody asks: `Hopper` once a committed result of
    /// `bench attention --engine` on such a GPU shows it right and faster.
    pub const DEFAULT: Engine = Engine::Mma;

    /// The environment variable that asks for one.
    pub const VARIABLE: &str = "WATTENTION_ATTENTION";

    pub fn name(self) -> &'static str {
        match self {
            Engine::Mma => "mma",
            Engine::Hopper => "hopper",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|engine| engine.name() == name)
    }

    /// The one that the environment asks for.
    pub fn asked() -> Result<Option<Self>> {
        let Ok(name) = std::env::var(Self::VARIABLE) else {
            return Ok(None);
        };
        let unknown = || Error::usage(format!("{}='{name}': there are mma and hopper", Self::VARIABLE));
        Self::parse(&name).map(Some).ok_or_else(unknown)
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
