//! Parameters by HF name, all in one slab, so that an optimizer step is one launch.

use crate::device::Device;
use crate::device::plan::Plan;
use crate::error::{Error, Result};
use crate::shape::{DType, Shape};
use crate::tape::Gradients;
use crate::tensor::cast::cast;
use crate::tensor::{Node, Tensor};
use std::collections::HashMap;

/// How a parameter starts when no checkpoint gives it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// Normal with the config's `init_std`.
    Normal,
    /// As `Normal`, the row of the pad token zero.
    Embedding {
        pad: usize,
    },
    Zeros,
    Ones,
    /// A table `[P, C]` that has in row p the sines of p / 10000^(2i/C), then their cosines.
    Sinusoids,
}

/// One parameter's or buffer's place.
#[derive(Debug, Clone)]
pub struct Entry {
    pub name: String,
    pub shape: Shape,
    pub init: Init,
    /// Elements into the slab.
    pub first: usize,
    /// Buffers get no gradient and no update (HF `register_buffer`).
    pub trainable: bool,
    /// Other names HF stores the same tensor under.
    pub aliases: Vec<String>,
}

impl Entry {
    /// Weight decay spares biases and layer-norm weights (HF `get_parameter_names`).
    pub fn decays(&self) -> bool {
        self.trainable && self.shape.dims().len() > 1
    }

    /// Its elements in the host copy of a slab.
    pub fn of<'a>(&self, slab: &'a [f32]) -> &'a [f32] {
        &slab[self.first..self.first + self.shape.len()]
    }
}

/// Elements between parameter starts: cache lines, so that vectors never straddle two parameters.
pub const STEP: usize = 16;

/// Hands out a model's tensors: first to learn what it has, then bound to a slab.
pub struct Builder {
    device: Device,
    slab: Option<Tensor>,
    entries: Vec<Entry>,
    nodes: Vec<(String, Node)>,
    next: usize,
}

impl Builder {
    /// A trainable tensor.
    pub fn parameter(&mut self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<Tensor> {
        let tensor = self.take(name, shape.into(), init, true, Vec::new())?;
        let node = Node::fresh();
        self.nodes.push((name.to_string(), node));
        Ok(tensor.with_node(Some(node)))
    }

    /// A trainable tensor that HF may store under other names (tied weights).
    pub fn tied(
        &mut self,
        name: &str,
        aliases: &[&str],
        shape: impl Into<Shape>,
        init: Init,
    ) -> Result<Tensor> {
        let tensor = self.parameter(name, shape, init)?;
        if let Some(entry) = self.entries.last_mut() {
            entry.aliases = aliases.iter().map(|alias| alias.to_string()).collect();
        }
        Ok(tensor)
    }

    /// A tensor that is stored but never trained; zeros when the checkpoint lacks it.
    pub fn buffer(&mut self, name: &str, shape: impl Into<Shape>) -> Result<Tensor> {
        self.take(name, shape.into(), Init::Zeros, false, Vec::new())
    }

    /// A tensor that is never trained and has the values of `init` when the checkpoint lacks it.
    pub fn constant(&mut self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<Tensor> {
        self.take(name, shape.into(), init, false, Vec::new())
    }

    /// A number `[1]` i32 on the device that is no part of the checkpoint.
    pub fn number(&self, value: i32) -> Result<Tensor> {
        let tensor = Tensor::persistent(&self.device, [1], DType::I32)?;
        tensor.write(&[value])?;
        Ok(tensor)
    }

    fn take(
        &mut self,
        name: &str,
        shape: Shape,
        init: Init,
        trainable: bool,
        aliases: Vec<String>,
    ) -> Result<Tensor> {
        let first = self.next;
        self.next = (first + shape.len()).next_multiple_of(STEP);
        self.entries.push(Entry { name: name.to_string(), shape, init, first, trainable, aliases });
        match &self.slab {
            Some(slab) => slab.slice(first, shape),
            // Learning the names: a tensor of the right shape that holds nothing.
            None => Tensor::persistent(&self.device, shape, self.device.precision().storage()),
        }
    }
}

/// A model's parameters on one device.
pub struct Parameters {
    pub entries: Vec<Entry>,
    /// `[n]` f32: every entry at its place, zeros between; what is saved, loaded and optimised.
    pub slab: Tensor,
    /// The same in the device's storage type where that is another one: what the model computes with.
    pub working: Option<Tensor>,
    nodes: HashMap<String, Node>,
}

impl Parameters {
    /// Builds a model over a fresh slab of zeros.
    pub fn build<M>(device: &Device, model: impl Fn(&mut Builder) -> Result<M>) -> Result<(M, Parameters)> {
        let builder = |slab| Builder {
            device: match &slab {
                None => Device::new(Plan::new(device.precision())),
                Some(_) => device.clone(),
            },
            slab,
            entries: Vec::new(),
            nodes: Vec::new(),
            next: 0,
        };
        let mut first = builder(None);
        drop(model(&mut first)?);
        let slab = Tensor::persistent(device, [first.next], DType::F32)?;
        let working = match device.precision().storage() {
            DType::F32 => None,
            narrow => Some(Tensor::persistent(device, [first.next], narrow)?),
        };
        let mut second = builder(Some(working.clone().unwrap_or_else(|| slab.clone())));
        let built = model(&mut second)?;
        let nodes = second.nodes.into_iter().collect();
        let parameters = Parameters { entries: second.entries, slab, working, nodes };
        Ok((built, parameters))
    }

    /// Brings what the model computes with up to date after `slab` was written.
    pub fn refresh(&self) -> Result<()> {
        match &self.working {
            Some(working) => cast(working, &self.slab),
            None => Ok(()),
        }
    }

    /// Elements that training changes.
    pub fn trainable(&self) -> usize {
        self.entries.iter().filter(|e| e.trainable).map(|e| e.shape.len()).sum()
    }

    pub fn device(&self) -> &Device {
        self.slab.device()
    }

    /// Entry `entry` of a slab with this layout (parameters, gradients or moments).
    pub fn part(&self, slab: &Tensor, entry: &Entry) -> Result<Tensor> {
        slab.slice(entry.first, entry.shape)
    }

    /// Host values of one entry of `slab`.
    pub fn read(&self, slab: &Tensor, entry: &Entry) -> Result<Vec<f32>> {
        self.part(slab, entry)?.read()
    }

    /// Gradients that collect into `slab`.
    pub fn gradients(&self, slab: &Tensor) -> Result<Gradients> {
        let mut gradients = Gradients::new();
        for entry in self.entries.iter().filter(|e| e.trainable) {
            let node = self.nodes.get(&entry.name).copied();
            if node.is_none() {
                return Err(Error::internal(format!("{} has no node", entry.name)));
            }
            let parameter = self.part(&self.slab, entry)?.with_node(node);
            gradients.register(&parameter, self.part(slab, entry)?)?;
        }
        Ok(gradients)
    }

    /// (first, length, decays) of each trainable entry, `[3 * parts]`, as the optimizer reads them.
    pub fn segments(&self) -> Vec<i32> {
        self.entries
            .iter()
            .filter(|e| e.trainable)
            .flat_map(|e| [e.first as i32, e.shape.len() as i32, e.decays() as i32])
            .collect()
    }
}
