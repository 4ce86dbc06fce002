//! Activation recomputation: a part of the model keeps its inputs alone and runs again in the backward pass.
//!
//! Chen et al. 2016, arXiv 1604.06174; torch.utils.checkpoint. Dropout masks are functions of their site, so
//! the second run gives the bits of the first, and the gradients are those without recomputation.

use super::Tape;
use crate::error::Result;
use crate::tensor::{Node, Tensor};
use serde::{Deserialize, Serialize};

/// What of a layer the backward pass computes a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recompute {
    /// Nothing: every activation is kept.
    #[default]
    None,
    /// Each attention and each feed-forward part by itself; their inputs are kept.
    AttentionFfn,
    /// The whole layer; its input is kept.
    Layer,
}

/// A part of a layer, from N tensors to N tensors.
pub type Part<const N: usize> = Box<dyn Fn(&Tape, &[Tensor; N]) -> Result<[Tensor; N]>>;

impl Recompute {
    /// Runs the parts of one layer, each on what the one before it gave.
    pub fn layer<const N: usize>(
        self,
        tape: &Tape,
        mut state: [Tensor; N],
        parts: Vec<Part<N>>,
    ) -> Result<[Tensor; N]> {
        match self {
            Recompute::None => {
                for part in parts {
                    state = part(tape, &state)?;
                }
            }
            Recompute::AttentionFfn => {
                for part in parts {
                    state = tape.recompute(move |tape| part(tape, &state))?;
                }
            }
            Recompute::Layer => {
                state = tape.recompute(move |tape| {
                    let mut state = state.clone();
                    for part in &parts {
                        state = part(tape, &state)?;
                    }
                    Ok(state)
                })?;
            }
        }
        Ok(state)
    }
}

impl Tape {
    /// Runs `work` and keeps what it captured and nothing of what it computed; the backward pass runs it again.
    pub fn recompute<const N: usize>(
        &self,
        work: impl Fn(&Tape) -> Result<[Tensor; N]> + 'static,
    ) -> Result<[Tensor; N]> {
        if !self.recording {
            return work(self);
        }
        let first = self.with_sites_of(false);
        let again = self.with_sites_of(true);
        let outputs = work(&first)?;
        self.sites.set(first.sites.get());
        let nodes = [(); N].map(|()| Node::fresh());
        self.push(move |gradients| {
            let given = nodes.map(|node| gradients.take(node));
            if given.iter().all(Option::is_none) {
                return Ok(());
            }
            for (output, gradient) in work(&again)?.iter().zip(given) {
                if let Some(gradient) = gradient {
                    gradients.add(output, gradient)?;
                }
            }
            again.run(gradients)
        });
        let mut nodes = nodes.into_iter();
        Ok(outputs.map(|output| output.with_node(nodes.next())))
    }

    /// An empty tape whose next dropout site is this one's.
    fn with_sites_of(&self, recording: bool) -> Tape {
        let tape = Tape::with(recording, self.training.clone());
        tape.sites.set(self.sites.get());
        tape
    }
}
