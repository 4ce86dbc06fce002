//! The left operand: its rows where they are stored, if a register tile can read them there, and packed panels if not.

/// Panels of `mr` rows of words each.
#[derive(Clone, Copy)]
pub enum Left<'a> {
    /// One panel after the other.
    Packed(&'a [f32]),
    /// The words of a row side by side, rows `stride` words apart.
    Stored { words: &'a [f32], stride: usize },
}

impl<'a> Left<'a> {
    /// `count` panels from `first` on, of `mr` rows of `depth` words.
    pub fn panels(self, first: usize, count: usize, mr: usize, depth: usize) -> Self {
        match self {
            Left::Packed(words) => Left::Packed(&words[first * mr * depth..][..count * mr * depth]),
            Left::Stored { words, stride } => {
                let words = &words[first * mr * stride..][..(count * mr - 1) * stride + depth];
                Left::Stored { words, stride }
            }
        }
    }

    /// Whether it is so many panels.
    pub fn is(self, count: usize, mr: usize, depth: usize) -> bool {
        match self {
            Left::Packed(words) => words.len() == count * mr * depth,
            Left::Stored { words, stride } => count == 0 || words.len() == (count * mr - 1) * stride + depth,
        }
    }

    /// The words of packed panels; of others none.
    pub fn packed(self) -> &'a [f32] {
        match self {
            Left::Packed(words) => words,
            Left::Stored { .. } => &[],
        }
    }
}
