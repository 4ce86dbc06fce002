//! Parameters by HF name, all in one slab, so that an optimizer step is one launch; weights in 8 bits lie in slabs of their
//! own, and are not trained.

use super::weights::{Kept, Place, Weight, Weights};
use crate::device::Device;
use crate::device::plan::Plan;
use crate::error::{Error, Result};
use crate::shape::{DType, Shape};
use crate::tape::Gradients;
use crate::tensor::cast::cast;
use crate::tensor::int8::{self, Int8};
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
    /// Elements into the slab; of no meaning where `kept` says that it is not there.
    pub first: usize,
    pub kept: Kept,
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

/// The same of values in 8 bits.
const INT8_STEP: usize = 64;

/// Hands out a model's tensors: first to learn what it has, then bound to a slab.
pub struct Builder {
    device: Device,
    weights: Weights,
    slabs: Option<Slabs>,
    entries: Vec<Entry>,
    nodes: Vec<(String, Node)>,
    next: usize,
    next_int8: Place,
}

/// What a model's tensors are parts of.
struct Slabs {
    /// What the model computes with.
    working: Tensor,
    int8: Option<Int8>,
}

impl Builder {
    /// A trainable tensor.
    pub fn parameter(&mut self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<Tensor> {
        let tensor = self.take(name, shape.into(), init, true, Vec::new())?;
        let node = Node::fresh();
        self.nodes.push((name.to_string(), node));
        Ok(tensor.with_node(Some(node)))
    }

    /// The weight `[O, I]` of a linear layer, which is trainable where it is not kept in 8 bits.
    pub fn weight(&mut self, name: &str, [o, i]: [usize; 2]) -> Result<Weight> {
        match self.weights {
            Weights::Stored => Ok(Weight::Stored(self.parameter(name, [o, i], Init::Normal)?)),
            Weights::Int8 => {
                let (weight, place) = self.take_int8([o, i])?;
                self.entries.push(Entry {
                    name: name.to_string(),
                    shape: [o, i].into(),
                    init: Init::Normal,
                    first: self.next,
                    kept: Kept::Int8(place),
                    trainable: true,
                    aliases: Vec::new(),
                });
                Ok(Weight::Int8(weight))
            }
        }
    }

    /// A trainable table that HF may store under other names (tied weights): its rows are looked up as they are stored,
    /// and products may have them in 8 bits.
    pub fn tied(
        &mut self,
        name: &str,
        aliases: &[&str],
        shape: [usize; 2],
        init: Init,
    ) -> Result<(Tensor, Option<Int8>)> {
        let tensor = self.parameter(name, shape, init)?;
        let int8 = match self.weights {
            Weights::Stored => None,
            Weights::Int8 => Some(self.take_int8(shape)?),
        };
        if let Some(entry) = self.entries.last_mut() {
            entry.aliases = aliases.iter().map(|alias| alias.to_string()).collect();
            entry.kept = int8.as_ref().map_or(Kept::Slab, |(_, place)| Kept::Both(*place));
        }
        Ok((tensor, int8.map(|(weight, _)| weight)))
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
        let (name, kept) = (name.to_string(), Kept::Slab);
        self.entries.push(Entry { name, shape, init, first, kept, trainable, aliases });
        match &self.slabs {
            Some(slabs) => slabs.working.slice(first, shape),
            // Learning the names: a tensor of the right shape that holds nothing.
            None => Tensor::persistent(&self.device, shape, self.device.precision().storage()),
        }
    }

    fn take_int8(&mut self, [o, i]: [usize; 2]) -> Result<(Int8, Place)> {
        let place = self.next_int8;
        self.next_int8 = Place {
            values: (place.values + o * i).next_multiple_of(INT8_STEP),
            scales: (place.scales + o).next_multiple_of(STEP),
        };
        let weight = match self.slabs.as_ref().and_then(|slabs| slabs.int8.as_ref()) {
            Some(slab) => slab.part(place.values, place.scales, [o, i])?,
            None => Int8::zeros(&self.device, [o, i])?,
        };
        Ok((weight, place))
    }
}

/// A model's parameters on one device.
pub struct Parameters {
    pub entries: Vec<Entry>,
    /// `[n]` f32: every entry at its place, zeros between; what is saved, loaded and optimised.
    pub slab: Tensor,
    /// The same in the device's storage type where that is another one: what the model computes with.
    pub working: Option<Tensor>,
    /// Weights in 8 bits, every one at its place: `[n]` values and `[m]` scales.
    pub int8: Option<Int8>,
    nodes: HashMap<String, Node>,
}

impl Parameters {
    /// Builds a model over a fresh slab of zeros.
    ///
    /// Fails where weights are to be kept in 8 bits, and the device cannot multiply with them.
    pub fn build<M>(
        device: &Device,
        weights: Weights,
        model: impl Fn(&mut Builder) -> Result<M>,
    ) -> Result<(M, Parameters)> {
        weights.check(device)?;
        let builder = |slabs: Option<Slabs>| Builder {
            device: match &slabs {
                None => Device::new(Plan::new(device.precision())),
                Some(_) => device.clone(),
            },
            weights,
            slabs,
            entries: Vec::new(),
            nodes: Vec::new(),
            next: 0,
            next_int8: Place { values: 0, scales: 0 },
        };
        let mut first = builder(None);
        drop(model(&mut first)?);
        let slab = Tensor::persistent(device, [first.next], DType::F32)?;
        let working = match device.precision().storage() {
            DType::F32 => None,
            narrow => Some(Tensor::persistent(device, [first.next], narrow)?),
        };
        let Place { values, scales } = first.next_int8;
        let int8 = match weights {
            Weights::Stored => None,
            Weights::Int8 => Some(Int8::slab(device, values, scales)?),
        };
        let computed_with = working.clone().unwrap_or_else(|| slab.clone());
        let mut second = builder(Some(Slabs { working: computed_with, int8: int8.clone() }));
        let built = model(&mut second)?;
        let nodes = second.nodes.into_iter().collect();
        let parameters = Parameters { entries: second.entries, slab, working, int8, nodes };
        Ok((built, parameters))
    }

    /// Brings what the model computes with up to date after `slab` was written.
    pub fn refresh(&self) -> Result<()> {
        match &self.working {
            Some(working) => cast(working, &self.slab),
            None => Ok(()),
        }
    }

    /// Gives a parameter its values, rounded where it is kept in 8 bits; [`Parameters::refresh`] comes after the last.
    pub fn write(&self, entry: &Entry, values: &[f32]) -> Result<()> {
        if let (Some(place), Some(slab)) = (entry.kept.int8(), &self.int8) {
            slab.part(place.values, place.scales, entry.shape.dims2("int8")?)?.write(values)?;
        }
        match entry.kept {
            Kept::Int8(_) => Ok(()),
            Kept::Slab | Kept::Both(_) => self.part(&self.slab, entry)?.write(values),
        }
    }

    /// Elements that training changes.
    pub fn trainable(&self) -> usize {
        self.entries.iter().filter(|e| e.trainable).map(|e| e.shape.len()).sum()
    }

    pub fn device(&self) -> &Device {
        self.slab.device()
    }

    /// Entry `entry` of a slab with this layout (parameters, gradients or moments); fails for one that is kept in 8 bits.
    pub fn part(&self, slab: &Tensor, entry: &Entry) -> Result<Tensor> {
        match entry.kept {
            Kept::Int8(_) => Err(Error::usage(Weights::NOT_TRAINED)),
            Kept::Slab | Kept::Both(_) => slab.slice(entry.first, entry.shape),
        }
    }

    /// Bytes that a product with this parameter reads, `size` of them for an element that is not kept in 8 bits.
    pub fn bytes_read(&self, entry: &Entry, size: usize) -> usize {
        match entry.kept.int8() {
            Some(_) => int8::bytes(entry.shape),
            None => entry.shape.len() * size,
        }
    }

    /// Host values of one entry of `slab`.
    pub fn read(&self, slab: &Tensor, entry: &Entry) -> Result<Vec<f32>> {
        self.part(slab, entry)?.read()
    }

    /// Gradients that collect into `slab`.
    pub fn gradients(&self, slab: &Tensor) -> Result<Gradients> {
        if self.int8.is_some() {
            return Err(Error::usage(Weights::NOT_TRAINED));
        }
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
