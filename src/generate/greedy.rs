//! Greedy decoding: the encoder once, then one token per row and step.

use crate::device::Device;
use crate::error::{Error, Result};
use crate::models::batch::Source;
use crate::models::session::{Session, Side, Signature};
use crate::models::{Limits, Loaded};
use crate::nn::{LayerCache, StepAt};
use crate::ops::argmax::argmax;
use crate::shape::DType;
use crate::tape::Tape;
use crate::tensor::Tensor;
use crate::trace::phase;
use std::cell::RefCell;

/// How far to decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GenerateOptions {
    /// Tokens after the start token, at most (HF `max_new_tokens`).
    pub max_new_tokens: usize,
}

impl GenerateOptions {
    /// Refuses what the decoder has no positions for.
    pub fn check(&self, limits: &Limits) -> Result<()> {
        let asked = self.max_new_tokens;
        match (1..=limits.max_target).contains(&asked) {
            true => Ok(()),
            false => Err(Error::usage(format!(
                "--max-new-tokens is {asked}; the decoder has {} positions",
                limits.max_target
            ))),
        }
    }
}

/// Decoding's persistent memory, kept from one batch to the next of the same shape.
#[derive(Default)]
pub struct State(RefCell<Option<Caches>>);

/// Fresh decoding state, as [`Session::new`] wants it.
pub fn state(_: &Loaded) -> Result<State> {
    Ok(State::default())
}

struct Caches {
    /// B, capacity, S.
    sizes: [usize; 3],
    layers: Vec<LayerCache>,
    /// `[B, S]` i32.
    key_state: Tensor,
}

/// Tokens `[B][..]` including the start token, each row cut after its eos or padded to the longest.
///
/// Equals HF `generate(num_beams=1, do_sample=False)`: finished rows emit pad, and decoding ends when
/// every row has its eos or `max_new_tokens` are out.
pub fn generate<X: AsRef<State>>(
    session: &mut Session<X>,
    source: &Source,
    options: GenerateOptions,
) -> Result<Vec<Vec<i32>>> {
    let limits = session.real().loaded.model.limits();
    options.check(&limits)?;
    let capacity = options.max_new_tokens;
    let sizes = [source.batch, capacity, source.padded];
    encode(session, source, sizes)?;
    let mut tokens = vec![vec![limits.decoder_start]; source.batch];
    let mut finished = vec![false; source.batch];
    for position in 0..capacity {
        let last: Vec<i32> = tokens.iter().map(|row| row[position]).collect();
        let next = step(session, &last, position, sizes)?;
        for ((row, finished), next) in tokens.iter_mut().zip(&mut finished).zip(next) {
            row.push(if *finished { limits.pad } else { next });
            *finished |= next == limits.eos;
        }
        if finished.iter().all(|&f| f) {
            break;
        }
    }
    Ok(tokens)
}

fn encode<X: AsRef<State>>(session: &mut Session<X>, source: &Source, sizes: [usize; 3]) -> Result<()> {
    let signature = Signature::new("generate.encode", source.signature().into_iter().chain(sizes));
    session.prepare(|side: &Side<X>| {
        let mut caches = side.state.as_ref().0.borrow_mut();
        if caches.as_ref().is_none_or(|c| c.sizes != sizes) {
            // Freed first: two sets of caches would double the peak.
            *caches = None;
            *caches = Some(Caches::new(side, sizes)?);
        }
        Ok(())
    })?;
    session.step(signature, |side: &Side<X>| {
        let model = &*side.loaded.model;
        let caches = side.state.as_ref().0.borrow();
        let caches = caches.as_ref().ok_or_else(|| Error::internal("decoding caches vanished"))?;
        let tape = Tape::off();
        let on_device = source.upload(side.device())?;
        let memory = model.encode(&tape, &on_device)?;
        caches.key_state.write(&source.key_state)?;
        model.fill_caches(&memory, &caches.layers)
    })
}

/// The most likely next token of each row.
fn step<X: AsRef<State>>(
    session: &mut Session<X>,
    last: &[i32],
    position: usize,
    sizes: [usize; 3],
) -> Result<Vec<i32>> {
    let [batch, capacity, _] = sizes;
    let cache_rows: Vec<i32> = (0..batch).map(|b| (b * capacity + position) as i32).collect();
    session.read(Signature::new("generate.step", sizes), |side: &Side<X>| {
        let _phase = phase("decoder.step");
        let device = side.device();
        let model = &*side.loaded.model;
        let caches = side.state.as_ref().0.borrow();
        let caches =
            caches.as_ref().ok_or_else(|| Error::internal("a decoding step came before its encoder"))?;
        let rows = Tensor::upload(device, [batch], &cache_rows)?;
        let at = StepAt { position, rows: &rows };
        let ids = Tensor::upload(device, [batch, 1], last)?;
        let hidden = model.decode_step(&ids, &caches.layers, &caches.key_state, &at)?;
        let logits = model.logits(&Tape::off(), &hidden)?;
        argmax(&Tape::off(), &logits)
    })
}

impl Caches {
    fn new<X>(side: &Side<X>, sizes: [usize; 3]) -> Result<Self> {
        let [batch, capacity, source] = sizes;
        let device: &Device = side.device();
        Ok(Caches {
            sizes,
            layers: side.loaded.model.new_caches(device, batch, capacity, source)?,
            key_state: Tensor::persistent(device, [batch, source], DType::I32)?,
        })
    }
}

impl AsRef<State> for State {
    fn as_ref(&self) -> &State {
        self
    }
}
