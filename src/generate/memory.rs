//! The device's side of decoding: caches that outlive steps, the encoder's step and the decoder's.

use super::GenerateOptions;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::models::Loaded;
use crate::models::batch::Source;
use crate::models::session::{Session, Side, Signature};
use crate::nn::{CacheSizes, LayerCache, StepAt};
use crate::ops::Position;
use crate::ops::argmax::argmax;
use crate::shape::DType;
use crate::tape::Tape;
use crate::tensor::Tensor;
use crate::trace::phase;
use std::cell::RefCell;

/// Decoding's persistent memory, kept from one batch to the next; it grows and never shrinks.
#[derive(Default)]
pub struct State(RefCell<Option<Caches>>);

/// Fresh decoding state, as [`Session::new`] wants it.
pub fn state(_: &Loaded) -> Result<State> {
    Ok(State::default())
}

impl AsRef<State> for State {
    fn as_ref(&self) -> &State {
        self
    }
}

struct Caches {
    sizes: CacheSizes,
    layers: Vec<LayerCache>,
    /// `[B, S]` i32.
    key_state: Tensor,
    /// What `layers` and `key_state` are parts of.
    memory: Tensor,
    states: Tensor,
}

/// One row to decode: the input that it answers, its last token, and which cache row each token before went to.
pub struct Row {
    input: usize,
    token: i32,
    past: Vec<i32>,
}

impl Row {
    pub fn first(input: usize, token: i32) -> Self {
        Row { input, token, past: Vec::new() }
    }

    /// The row continued with `token`.
    pub fn then(&self, token: i32) -> Self {
        Row { input: self.input, token, past: self.past.clone() }
    }
}

/// The steps over one batch.
pub struct Steps {
    sizes: CacheSizes,
    /// Rows of an input.
    each: usize,
    pad: i32,
}

/// What a step of some rows reads, padded to the rows of a bucket.
struct Inputs {
    ids: Vec<i32>,
    places: Vec<i32>,
    past: Vec<i32>,
    sources: Vec<i32>,
}

impl Steps {
    pub fn new(source: &Source, options: &GenerateOptions) -> Self {
        let sizes = CacheSizes {
            rows: source.batch * options.rows(),
            capacity: options.max_new_tokens,
            inputs: source.batch,
            source: source.padded,
        };
        Steps { sizes, each: options.rows(), pad: options.pad_token_id }
    }

    /// Runs the encoder, and keeps its keys and values for every layer of the decoder.
    pub fn encode<X: AsRef<State>>(&self, session: &mut Session<X>, source: &Source) -> Result<()> {
        let sizes = self.sizes;
        let shape = [sizes.rows, sizes.capacity, sizes.inputs, sizes.source];
        let signature = Signature::new("generate.encode", source.signature().into_iter().chain(shape));
        session.prepare(|side: &Side<X>| {
            let mut caches = side.state.as_ref().0.borrow_mut();
            if caches.as_ref().is_none_or(|c| c.sizes != sizes) {
                *caches = Some(Caches::new(side, sizes, caches.take())?);
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

    /// The most likely next token of every row, which all stand at `position`.
    pub fn best<X: AsRef<State>>(
        &self,
        session: &mut Session<X>,
        rows: &mut [Row],
        position: usize,
    ) -> Result<Vec<i32>> {
        let y =
            self.step(session, "generate.best", rows, position, |logits| argmax(&Tape::off(), &logits))?;
        let mut tokens: Vec<i32> = y.read()?;
        tokens.truncate(rows.len());
        Ok(tokens)
    }

    /// The logits `[N, V]` of every row's next token.
    pub fn logits<X: AsRef<State>>(
        &self,
        session: &mut Session<X>,
        rows: &mut [Row],
        position: usize,
    ) -> Result<Vec<f32>> {
        let logits = self.step(session, "generate.logits", rows, position, Ok)?;
        let mut values = logits.read_floats()?;
        values.truncate(rows.len() * logits.shape().last());
        Ok(values)
    }

    fn step<X: AsRef<State>>(
        &self,
        session: &mut Session<X>,
        kind: &'static str,
        rows: &mut [Row],
        position: usize,
        finish: impl Fn(Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let CacheSizes { rows: most, capacity, inputs, source } = self.sizes;
        let batch = self.inputs(rows, position);
        let n = batch.ids.len();
        let signature = Signature::new(kind, [n, most, capacity, inputs, source]);
        session.step(signature, |side: &Side<X>| {
            let _phase = phase("decoder.step");
            let device = side.device();
            let model = &*side.loaded.model;
            let caches = side.state.as_ref().0.borrow();
            let caches =
                caches.as_ref().ok_or_else(|| Error::internal("a decoding step came before its encoder"))?;
            let [ids, places, sources, past, now] = &Tensor::upload_together(
                device,
                [
                    ([n, 1].into(), &batch.ids),
                    ([n].into(), &batch.places),
                    ([n, 1].into(), &batch.sources),
                    ([n, capacity].into(), &batch.past),
                    ([1].into(), &[position as i32]),
                ],
            )?;
            let position = Position { value: position, on_device: now };
            let at = StepAt { position, places, past, sources, beams: self.each };
            let hidden = model.decode_step(ids, &caches.layers, &caches.key_state, &at)?;
            finish(model.logits_of(&Tape::off(), &hidden)?)
        })
    }

    /// Rows take the first rows of the cache in their order; what a bucket has beyond them is not looked at.
    fn inputs(&self, rows: &mut [Row], position: usize) -> Inputs {
        let CacheSizes { rows: most, capacity, .. } = self.sizes;
        // Few sizes, so that steps of few shapes are planned and recorded.
        let inputs = rows.len().div_ceil(self.each).next_power_of_two();
        let n = (inputs * self.each).min(most);
        let mut batch = Inputs {
            ids: vec![self.pad; n],
            places: (0..n).map(|row| (row * capacity + position) as i32).collect(),
            past: vec![0; n * capacity],
            sources: vec![0; n],
        };
        for (i, row) in rows.iter_mut().enumerate() {
            row.past.push(i as i32);
            batch.ids[i] = row.token;
            batch.sources[i] = row.input as i32;
            batch.past[i * capacity..][..row.past.len()].copy_from_slice(&row.past);
        }
        batch
    }
}

impl Caches {
    /// Caches of these sizes, in the memory of `before` where that is enough.
    fn new<X>(side: &Side<X>, sizes: CacheSizes, before: Option<Caches>) -> Result<Self> {
        let (device, model): (&Device, _) = (side.device(), &*side.loaded.model);
        let (elements, states) = (model.cache_elements(sizes), sizes.inputs * sizes.source);
        let (memory, states) = match before {
            Some(c) if c.memory.len() >= elements && c.states.len() >= states => (c.memory, c.states),
            too_small => {
                // Freed first: two sets of caches would double the peak.
                drop(too_small);
                (
                    Tensor::persistent(device, [elements], device.precision().storage())?,
                    Tensor::persistent(device, [states], DType::I32)?,
                )
            }
        };
        Ok(Caches {
            sizes,
            layers: model.caches(&memory, sizes)?,
            key_state: states.slice(0, [sizes.inputs, sizes.source])?,
            memory,
            states,
        })
    }
}
