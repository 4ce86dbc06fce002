//! Autograd as a value: a list of recorded backward steps with explicit saved tensors.

use crate::device::{Device, Kernel};
use crate::error::{Error, Result};
use crate::shape::DType;
use crate::tensor::{Launch, Node, Tensor};
use crate::trace::{self, Pass, Phase};
use progress::Progress;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

mod accumulate;
mod progress;
mod randomness;
mod recompute;

pub(crate) use accumulate::add;
pub use progress::{Act, Writes, buckets};
pub use randomness::{Dropout, Randomness};
pub use recompute::{Part, Recompute};

/// The kernels of gradient bookkeeping.
pub static KERNELS: &[&Kernel] = &[&accumulate::FILL, &accumulate::ACCUMULATE];

type Backward = Box<dyn FnOnce(&mut Gradients) -> Result<()>>;

struct Step {
    phase: &'static str,
    run: Backward,
}

impl Step {
    /// Enters the phase that recorded it, on the way back.
    fn enter(&self) -> trace::Guard {
        trace::enter(Phase { label: self.phase, pass: Pass::Backward })
    }
}

/// Records backward steps while the forward pass runs, or nothing when off.
pub struct Tape {
    recording: bool,
    /// The step's randomness on the device.
    training: Option<Tensor>,
    sites: Cell<u16>,
    steps: RefCell<Vec<Step>>,
}

impl Tape {
    /// Inference: no gradients, no dropout.
    pub fn off() -> Self {
        Self::with(false, None)
    }

    /// Gradients in evaluation mode: no dropout.
    pub fn gradients() -> Self {
        Self::with(true, None)
    }

    /// Training: gradients and dropout.
    pub fn training(device: &Device, randomness: Randomness) -> Result<Self> {
        Ok(Self::with(true, Some(randomness.upload(device)?)))
    }

    fn with(recording: bool, training: Option<Tensor>) -> Self {
        Tape { recording, training, sites: Cell::new(0), steps: RefCell::default() }
    }

    pub fn is_training(&self) -> bool {
        self.training.is_some()
    }

    /// Whether backward steps are being recorded.
    pub fn is_recording(&self) -> bool {
        self.recording
    }

    /// The next dropout site; off outside training or at `p` = 0.
    pub fn dropout(&self, p: f32) -> Dropout {
        let site = self.sites.replace(self.sites.get().wrapping_add(1));
        match &self.training {
            Some(randomness) if p > 0.0 => Dropout { p, site, randomness: Some(randomness.clone()) },
            _ => Dropout::OFF,
        }
    }

    /// Whether a gradient must flow through an op with these inputs.
    pub fn needs_gradient(&self, inputs: &[&Tensor]) -> bool {
        self.recording && inputs.iter().any(|t| t.node().is_some())
    }

    /// Records how to turn the gradient of `output` into gradients of `inputs`.
    ///
    /// `backward` gets d(loss)/d(output) and the gradients to add to. It is dropped unrecorded when
    /// no input needs a gradient.
    pub fn record(
        &self,
        inputs: &[&Tensor],
        output: Tensor,
        backward: impl FnOnce(Tensor, &mut Gradients) -> Result<()> + 'static,
    ) -> Tensor {
        if !self.needs_gradient(inputs) {
            return output;
        }
        let (node, shape) = (Node::fresh(), output.shape());
        // A consumer may have seen the output under another shape.
        self.push(move |gradients| match gradients.take(node) {
            Some(dy) => backward(dy.reshape(shape)?, gradients),
            None => Ok(()),
        });
        output.with_node(Some(node))
    }

    /// Records a step for an op with two outputs; either gradient may be absent, not both.
    pub fn record_pair(
        &self,
        inputs: &[&Tensor],
        outputs: (Tensor, Tensor),
        backward: impl FnOnce(Option<Tensor>, Option<Tensor>, &mut Gradients) -> Result<()> + 'static,
    ) -> (Tensor, Tensor) {
        if !self.needs_gradient(inputs) {
            return outputs;
        }
        let (a, b) = (Node::fresh(), Node::fresh());
        let shapes = (outputs.0.shape(), outputs.1.shape());
        self.push(move |gradients| {
            let da = gradients.take(a).map(|da| da.reshape(shapes.0));
            let db = gradients.take(b).map(|db| db.reshape(shapes.1));
            match (da.transpose()?, db.transpose()?) {
                (None, None) => Ok(()),
                (da, db) => backward(da, db, gradients),
            }
        });
        (outputs.0.with_node(Some(a)), outputs.1.with_node(Some(b)))
    }

    /// States that an op has no gradient; an error if one would be lost.
    pub fn no_gradient(&self, op: &'static str, reason: &'static str, inputs: &[&Tensor]) -> Result<()> {
        match self.needs_gradient(inputs) {
            true => Err(Error::NoGradient { op, reason }),
            false => Ok(()),
        }
    }

    fn push(&self, run: impl FnOnce(&mut Gradients) -> Result<()> + 'static) {
        self.steps.borrow_mut().push(Step { phase: trace::current().label, run: Box::new(run) });
    }

    /// Runs the recorded steps in reverse from d(loss)/d(loss) = `scale`, adding to `gradients`.
    pub fn backward(self, loss: &Tensor, scale: f32, gradients: &mut Gradients) -> Result<()> {
        let node = loss
            .node()
            .ok_or_else(|| Error::internal("backward was asked of a value that no parameter reaches"))?;
        let seed = Tensor::empty(loss.device(), loss.shape(), DType::F32)?;
        let phase = self.steps.borrow().last().map(Step::enter);
        accumulate::fill(&seed, scale)?;
        drop(phase);
        gradients.give(node, seed)?;
        self.run(gradients)
    }

    /// Runs the recorded steps in reverse from whatever gradients have been given.
    fn run(self, gradients: &mut Gradients) -> Result<()> {
        let mut steps = self.steps.into_inner();
        while let Some(step) = steps.pop() {
            let _phase = step.enter();
            (step.run)(gradients)?;
            gradients.advance()?;
        }
        Ok(())
    }
}

/// Where a backward kernel writes: it assigns a fresh gradient and adds to one that holds a part.
pub struct Slot {
    pub tensor: Tensor,
    pub accumulate: bool,
}

impl Slot {
    /// The flag as kernels take it.
    fn flag(&self) -> usize {
        self.accumulate as usize
    }
}

impl Launch {
    /// The output `gradient`, which is to be assigned or, by the size `add`, added to; absent where it is not wanted.
    pub fn gradient(self, gradient: &str, add: &str, slot: Option<&Slot>) -> Self {
        self.output(gradient, slot.map(|slot| &slot.tensor)).size(add, slot.map_or(0, Slot::flag))
    }
}

/// Gradients by node: persistent ones for parameters, step-lived ones for activations.
#[derive(Default)]
pub struct Gradients {
    slots: HashMap<Node, Held>,
    progress: Option<Progress>,
}

struct Held {
    tensor: Tensor,
    written: bool,
    /// Whether [`Gradients::add`] moved the buffer in: others may hold it too.
    moved: bool,
    /// A parameter's place in the slab of all.
    parameter: Option<Range<usize>>,
}

impl Held {
    /// Tells whoever watches the pass that it writes this gradient.
    fn tell(&self, node: Node, progress: &mut Option<Progress>) -> Result<()> {
        match (&self.parameter, progress) {
            (Some(place), Some(progress)) => progress.writes(node, place),
            _ => Ok(()),
        }
    }

    /// Makes the buffer safe to add to.
    ///
    /// Only a moved-in buffer is copied: one that a live [`Slot`] shares must stay the same buffer,
    /// so that a launch that would write it twice is refused.
    fn own(&mut self) -> Result<()> {
        if std::mem::take(&mut self.moved) && self.tensor.is_shared() {
            let copy = self.tensor.like(self.tensor.shape())?;
            accumulate::add(&copy, &self.tensor, false)?;
            self.tensor = copy;
        }
        Ok(())
    }
}

impl Gradients {
    pub fn new() -> Self {
        Gradients::default()
    }

    /// Registers the buffer that collects a parameter's gradient.
    pub fn register(&mut self, parameter: &Tensor, buffer: Tensor) -> Result<()> {
        let node = parameter.node().ok_or_else(|| Error::internal("a parameter has no node"))?;
        let parameter = Some(buffer.place());
        let held = Held { tensor: buffer, written: false, moved: false, parameter };
        self.slots.insert(node, held);
        Ok(())
    }

    /// Whether no step has written a parameter's gradient since the last reset.
    pub fn is_fresh(&self) -> bool {
        !self.slots.values().any(|held| held.parameter.is_some() && held.written)
    }

    /// Forgets all parameter gradients: the next write assigns.
    pub fn reset(&mut self) {
        for held in self.slots.values_mut() {
            held.written = false;
        }
        self.progress = None;
    }

    /// Zeroes the parameter gradients that no step has written since the last reset.
    pub fn finish(&mut self) -> Result<()> {
        self.fill(|_| true)
    }

    /// Zeroes those of `which` that no step has written.
    fn fill(&mut self, which: impl Fn(Node) -> bool) -> Result<()> {
        let is_open = |node: Node, held: &Held| held.parameter.is_some() && !held.written && which(node);
        let mut unwritten: Vec<_> =
            self.slots.iter_mut().filter(|(node, held)| is_open(**node, held)).collect();
        unwritten.sort_by_key(|(node, _)| **node);
        for (_, held) in unwritten {
            accumulate::fill(&held.tensor, 0.0)?;
            held.written = true;
        }
        Ok(())
    }

    /// Has the next backward pass do `act` with each of `buckets`, in their order, as soon as its gradients are final;
    /// `known` is what such a pass writes, without which nothing is done. No other pass may write them later.
    pub fn watch(&mut self, known: Option<Rc<Writes>>, buckets: Rc<[Range<usize>]>, act: Act) -> Result<()> {
        if let Some(known) = &known {
            self.fill(|node| known.of(node) == 0)?;
        }
        let place = |(node, held): (&Node, &Held)| held.parameter.clone().map(|place| (*node, place));
        let parameters: Vec<_> = self.slots.iter().filter_map(place).collect();
        self.progress = Some(Progress::new(known, buckets, &parameters, act));
        Ok(())
    }

    /// What the pass that was watched has written, and how many buckets were acted on.
    pub fn watched(&mut self) -> (Writes, usize) {
        self.progress.take().map(Progress::finish).unwrap_or_default()
    }

    fn advance(&mut self) -> Result<()> {
        self.progress.as_mut().map_or(Ok(()), Progress::advance)
    }

    /// The gradient to write for `x`, or `None` when none is wanted. The caller must write all of it.
    pub fn slot(&mut self, x: &Tensor) -> Result<Option<Slot>> {
        let Some(node) = x.node() else {
            return Ok(None);
        };
        if let Some(held) = self.slots.get_mut(&node) {
            held.tell(node, &mut self.progress)?;
            let accumulate = std::mem::replace(&mut held.written, true);
            held.own()?;
            let tensor = held.tensor.reshape(x.shape())?;
            return Ok(Some(Slot { tensor, accumulate }));
        }
        let tensor = Tensor::empty(x.device(), x.shape(), x.dtype())?;
        self.hold(node, tensor.clone(), false);
        Ok(Some(Slot { tensor, accumulate: false }))
    }

    /// Adds `gradient` to `x`'s, by moving it in when it is the first part.
    pub fn add(&mut self, x: &Tensor, gradient: Tensor) -> Result<()> {
        match x.node() {
            Some(node) => self.give(node, gradient.reshape(x.shape())?),
            None => Ok(()),
        }
    }

    fn give(&mut self, node: Node, gradient: Tensor) -> Result<()> {
        match self.slots.get_mut(&node) {
            Some(held) => {
                held.tell(node, &mut self.progress)?;
                let written = std::mem::replace(&mut held.written, true);
                held.own()?;
                accumulate::add(&held.tensor, &gradient, written)
            }
            None => {
                self.hold(node, gradient, true);
                Ok(())
            }
        }
    }

    fn hold(&mut self, node: Node, tensor: Tensor, moved: bool) {
        let held = Held { tensor, written: true, moved, parameter: None };
        self.slots.insert(node, held);
    }

    /// Removes and returns an activation's gradient.
    fn take(&mut self, node: Node) -> Option<Tensor> {
        self.slots.remove(&node).map(|held| held.tensor)
    }

    /// A parameter's gradient buffer.
    pub fn of(&self, parameter: &Tensor) -> Option<&Tensor> {
        parameter.node().and_then(|node| self.slots.get(&node)).map(|held| &held.tensor)
    }
}
