//! A model ready to run: every step is planned once per shape, then runs in the planned arena.

use super::{Loaded, ModelOptions, load};
use crate::device::plan::{Plan, Recording};
use crate::device::{Device, Precision, Used};
use crate::error::Result;
use crate::shape::Element;
use crate::tensor::Tensor;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

/// A model on one device with whatever state its steps share.
pub struct Side<X> {
    pub loaded: Loaded,
    pub state: X,
}

impl<X> Side<X> {
    pub fn device(&self) -> &Device {
        self.loaded.parameters.device()
    }
}

/// Names a kind of step and the shapes that decide its allocations.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Signature {
    pub kind: &'static str,
    pub shape: Vec<usize>,
}

impl Signature {
    pub fn new(kind: &'static str, shape: impl IntoIterator<Item = usize>) -> Self {
        Signature { kind, shape: shape.into_iter().collect() }
    }
}

/// The model on its device and its twin on the plan executor.
pub struct Session<X> {
    /// Absent in a dry run.
    real: Option<Side<X>>,
    twin: Side<X>,
    plan: Rc<Plan>,
    recordings: HashMap<Signature, Rc<Recording>>,
    /// Every step of a dry run whose steps are wanted one by one.
    walked: Option<Vec<Recording>>,
}

impl<X> Session<X> {
    /// `state` is made once for the device and once for the plan.
    pub fn new(loaded: Loaded, options: ModelOptions, state: impl Fn(&Loaded) -> Result<X>) -> Result<Self> {
        let plan = Plan::new(loaded.parameters.device().precision());
        let twin = loaded.twin(&Device::new(plan.clone()), options)?;
        Ok(Session {
            real: Some(Side { state: state(&loaded)?, loaded }),
            twin: Side { state: state(&twin)?, loaded: twin },
            plan,
            recordings: HashMap::new(),
            walked: None,
        })
    }

    /// A session that only plans: its steps record what they would do, and what they read is zero.
    pub fn dry_run(
        config: &Path,
        precision: Precision,
        options: ModelOptions,
        state: impl Fn(&Loaded) -> Result<X>,
    ) -> Result<Self> {
        let plan = Plan::new(precision);
        let loaded = load::empty(config, &Device::new(plan.clone()), options)?;
        Ok(Session {
            real: None,
            twin: Side { state: state(&loaded)?, loaded },
            plan,
            recordings: HashMap::new(),
            walked: None,
        })
    }

    /// The model on its device, or on the plan executor in a dry run.
    pub fn real(&self) -> &Side<X> {
        self.real.as_ref().unwrap_or(&self.twin)
    }

    /// [`Session::real`]'s model, given up.
    pub fn into_loaded(self) -> Loaded {
        self.real.unwrap_or(self.twin).loaded
    }

    /// What a step would allocate and launch; recorded once per signature.
    ///
    /// `work` must allocate the same whatever the data, and read nothing back. What it returns of the
    /// arena is gone when the next step begins.
    pub fn plan<R>(
        &mut self,
        signature: &Signature,
        work: impl Fn(&Side<X>) -> Result<R>,
    ) -> Result<Rc<Recording>> {
        if let Some(recording) = self.recordings.get(signature) {
            return Ok(recording.clone());
        }
        self.plan.record();
        let outcome = work(&self.twin);
        let recording = Rc::new(self.plan.finish()?);
        outcome?;
        self.recordings.insert(signature.clone(), recording.clone());
        Ok(recording)
    }

    /// Runs a step on the device, in the arena that its plan laid out.
    pub fn step<R>(&mut self, signature: Signature, work: impl Fn(&Side<X>) -> Result<R>) -> Result<R> {
        let recording = self.plan(&signature, &work)?;
        let Some(real) = &self.real else {
            let Some(walked) = &mut self.walked else {
                return work(&self.twin);
            };
            self.plan.record();
            let outcome = work(&self.twin);
            walked.push(self.plan.finish()?);
            return outcome;
        };
        let device = real.device();
        device.begin_step(&recording.layout)?;
        let outcome = work(real);
        match outcome {
            Ok(_) => device.end_step()?,
            Err(_) => device.abandon_step(),
        }
        outcome
    }

    /// Runs a step and reads the tensor that it gives: inside the step nothing may be read.
    pub fn read<T: Element>(
        &mut self,
        signature: Signature,
        work: impl Fn(&Side<X>) -> Result<Tensor>,
    ) -> Result<Vec<T>> {
        self.step(signature, work)?.read()
    }

    /// Runs `work` on the device's side and on the plan's, outside of steps: for persistent memory.
    pub fn prepare(&self, work: impl Fn(&Side<X>) -> Result<()>) -> Result<()> {
        if let Some(real) = &self.real {
            work(real)?;
        }
        work(&self.twin)
    }

    /// Runs `work` as a dry run: its steps are planned and not done.
    pub fn dry<R>(&mut self, work: impl FnOnce(&mut Self) -> R) -> R {
        let real = self.real.take();
        let outcome = work(self);
        self.real = real;
        outcome
    }

    /// The steps of `work` in order, as a dry run does them: each at the cost of its place, where
    /// [`Session::recordings`] has a kind of step once, as it was first.
    pub fn walk<R>(&mut self, work: impl FnOnce(&mut Self) -> Result<R>) -> Result<Vec<Recording>> {
        self.walked = Some(Vec::new());
        let outcome = self.dry(work);
        let walked = self.walked.take().unwrap_or_default();
        outcome.map(|_| walked)
    }

    /// Bytes the plan foresees: persistent ones, and the largest arena of the steps planned so far.
    pub fn planned(&self) -> Used {
        Device::new(self.plan.clone()).used()
    }

    /// Every step planned so far, in no order.
    pub fn recordings(&self) -> impl Iterator<Item = (&Signature, &Recording)> {
        self.recordings.iter().map(|(s, r)| (s, &**r))
    }
}
