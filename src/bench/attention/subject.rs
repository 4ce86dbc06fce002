//! The tensors of one attention op on one device, and its passes over them.

use super::{Kind, Work};
use crate::bench::repeat::Flush;
use crate::device::Device;
use crate::device::cpu::attention::MAX_HEAD;
use crate::error::{Error, Result};
use crate::models::block_plan::{BlockTable, PlanConfig, RandomBlocks, block_table};
use crate::noise::random;
use crate::ops::attention::block_sparse_attention::{BlockSparse, Blocks, block_sparse_attention};
use crate::ops::attention::decode_attention::{Cached, Keys, decode_attention};
use crate::ops::attention::dense_attention::{Dense, dense_attention};
use crate::ops::attention::window_attention::{self, window_attention};
use crate::ops::global_attention::{Projections, global_attention};
use crate::shape::{DType, Element, Shape};
use crate::tape::{Dropout, Gradients, Tape};
use crate::tensor::{Node, Tensor};
use half::bf16;

/// Elements of the largest tensor that kernels can index.
const MOST: usize = i32::MAX as usize;
/// BigBird-Pegasus' published `max_position_embeddings`: up to here its first plan is drawn.
const MAX_POSITION: usize = 4096;

type Attend = Box<dyn Fn(&Tape, &[Leaf]) -> Result<Tensor>>;

/// An input, with the f32 gradient of those that are weights.
struct Leaf {
    value: Tensor,
    gradient: Option<Tensor>,
}

pub struct Subject {
    leaves: Vec<Leaf>,
    attend: Attend,
    /// The gradient of the output; none of an op that has no backward pass.
    d_o: Option<Tensor>,
}

impl Subject {
    /// The op of `work` with inputs of zeros.
    pub fn new(work: &Work, device: &Device) -> Result<Self> {
        let Work { kind, batch: b, length: s, heads, head_size, globals: g, .. } = *work;
        if head_size > MAX_HEAD {
            return Err(Error::usage(format!("heads of {head_size} are above the largest, {MAX_HEAD}")));
        }
        if g > s {
            return Err(Error::usage(format!("{g} global tokens are more than the {s} there are")));
        }
        let elements = [b, s, heads].iter().try_fold(head_size, |product, &n| product.checked_mul(n));
        if elements.is_none_or(|n| n > MOST) {
            let sizes = format!("{b} x {s} tokens of {heads} heads of {head_size}");
            return Err(Error::DoesNotFit(format!("{sizes} are more than a tensor holds; ask for fewer")));
        }
        let c = heads * head_size;
        let activation = |shape: Shape| Leaf::new(device, shape, false);
        let sequence = |length: usize| activation([b, length, c].into());
        let (leaves, attend, output): (Vec<Leaf>, Attend, Option<Shape>) = match kind {
            Kind::Window => {
                let leaves = vec![sequence(s)?, sequence(s)?, sequence(s)?];
                (leaves, window(work, device)?, Some([b, s, c].into()))
            }
            Kind::BlockSparse => {
                let leaves = vec![sequence(s)?, sequence(s)?, sequence(s)?];
                (leaves, block_sparse(work, device)?, Some([b, s, c].into()))
            }
            Kind::Dense => {
                let leaves = vec![sequence(s)?, sequence(s)?, sequence(s)?];
                let pattern = move |key_len| Dense {
                    heads,
                    key_len,
                    causal: None,
                    key_state: None,
                    dropout: Dropout::OFF,
                };
                let attend: Attend = Box::new(move |tape, x| {
                    dense_attention(tape, &x[0].value, &x[1].value, &x[2].value, pattern(s))
                });
                (leaves, attend, Some([b, s, c].into()))
            }
            Kind::Global => {
                let weight = |shape: Shape| Leaf::new(device, shape, true);
                let square = || weight([c, c].into());
                let leaves = vec![sequence(g)?, sequence(s)?, square()?, square()?, weight([c].into())?];
                (leaves, global(work, device)?, Some([b, g, c].into()))
            }
            Kind::Decode => {
                let leaves = vec![activation([b, c].into())?, sequence(s)?, sequence(s)?];
                (leaves, decode(work, device)?, None)
            }
        };
        let d_o = output.map(|shape| Tensor::persistent(device, shape, device.precision().storage()));
        Ok(Subject { leaves, attend, d_o: d_o.transpose()? })
    }

    /// Random values in [-1, 1) in every input and in the gradient of the output.
    pub fn fill(&self, seed: u64) -> Result<()> {
        let tensors = self.leaves.iter().map(|leaf| &leaf.value).chain(&self.d_o);
        tensors.enumerate().try_for_each(|(i, tensor)| {
            let values = random(seed.wrapping_mul(16).wrapping_add(i as u64 + 1), tensor.len());
            match tensor.dtype() {
                DType::BF16 => tensor.write(&values.iter().map(|&x| bf16::from_f32(x)).collect::<Vec<_>>()),
                _ => tensor.write(&values),
            }
        })
    }

    /// Forward, and backward where asked for; each finds its inputs in memory after a `flush`.
    pub fn run(&self, backward: bool, flush: Option<&Flush>) -> Result<()> {
        let flush = || flush.map_or(Ok(()), Flush::run);
        flush()?;
        let tape = if backward { Tape::gradients() } else { Tape::off() };
        let o = (self.attend)(&tape, &self.leaves)?;
        let Some(d_o) = self.d_o.clone().filter(|_| backward) else {
            return Ok(());
        };
        flush()?;
        let mut gradients = Gradients::new();
        for leaf in &self.leaves {
            if let Some(gradient) = &leaf.gradient {
                gradients.register(&leaf.value, gradient.clone())?;
            }
        }
        let loss = Tensor::upload(d_o.device(), [1], &[0.0f32])?;
        let output = o.clone();
        let loss = tape.record(&[&o], loss, move |_, gradients| gradients.add(&output, d_o));
        drop(o);
        tape.backward(&loss, 1.0, &mut gradients)
    }
}

impl Leaf {
    fn new(device: &Device, shape: Shape, weight: bool) -> Result<Self> {
        let value = Tensor::persistent(device, shape, device.precision().storage())?;
        let gradient = weight.then(|| Tensor::persistent(device, shape, DType::F32));
        Ok(Leaf { value: value.with_node(Some(Node::fresh())), gradient: gradient.transpose()? })
    }
}

/// A tensor of values that stay.
fn fixed<T: Element>(device: &Device, shape: impl Into<Shape>, values: &[T]) -> Result<Tensor> {
    let tensor = Tensor::persistent(device, shape, T::DTYPE)?;
    tensor.write(values)?;
    Ok(tensor)
}

fn window(work: &Work, device: &Device) -> Result<Attend> {
    let Work { batch: b, length: s, heads, window, globals: g, .. } = *work;
    let state: Vec<i32> = (0..b * s).map(|e| if e % s < g { 2 } else { 1 }).collect();
    let index: Vec<i32> = (0..b * g).map(|e| (e % g) as i32).collect();
    let key_state = fixed(device, [b, s], &state)?;
    let global_index = fixed(device, [b, g], &index)?;
    Ok(Box::new(move |tape, x| {
        let (key_state, global_index, dropout) = (&key_state, &global_index, Dropout::OFF);
        let pattern = window_attention::Window { heads, window, key_state, global_index, dropout };
        window_attention(tape, &x[0].value, &x[1].value, &x[2].value, pattern)
    }))
}

fn block_sparse(work: &Work, device: &Device) -> Result<Attend> {
    let Work { batch: b, length: s, heads, block_size, random_blocks, .. } = *work;
    let plan = PlanConfig { block_size, num_random_blocks: random_blocks, max_position: MAX_POSITION };
    let table = block_table(0, heads, s, &plan, RandomBlocks::Drawn)?;
    let lists = |table: &BlockTable| [table.row_ptr.clone(), table.col.clone(), table.count.clone()];
    let (table, inverse) = (lists(&table), lists(&table.inverse()));
    let blocks =
        Blocks::new(device, heads, table.each_ref().map(|x| &x[..]), inverse.each_ref().map(|x| &x[..]))?;
    let key_state = fixed(device, [b, s], &vec![1i32; b * s])?;
    Ok(Box::new(move |tape, x| {
        let pattern = BlockSparse { heads, block_size, blocks: &blocks, key_state: &key_state };
        block_sparse_attention(tape, &x[0].value, &x[1].value, &x[2].value, pattern)
    }))
}

fn global(work: &Work, device: &Device) -> Result<Attend> {
    let Work { batch: b, length: s, heads, globals, .. } = *work;
    if globals == 0 {
        return Err(Error::usage("global attention needs a global token: give --globals 1"));
    }
    let key_state = fixed(device, [b, s], &vec![1i32; b * s])?;
    Ok(Box::new(move |tape, x| {
        let [key, value, value_bias] = [2, 3, 4].map(|i: usize| x[i].value.clone());
        let w = Projections { key, value, value_bias };
        global_attention(tape, &x[0].value, &x[1].value, &w, &key_state, heads)
    }))
}

fn decode(work: &Work, device: &Device) -> Result<Attend> {
    let Work { batch: b, length: s, heads, .. } = *work;
    let index = fixed(device, [b, 1], &(0..b as i32).collect::<Vec<_>>())?;
    Ok(Box::new(move |tape, x| {
        let (k, v) = (&x[1].value, &x[2].value);
        let keys = Keys::First(s);
        let cached = Cached { heads, k, v, index: &index, beams: 1, keys, key_state: None };
        decode_attention(tape, &x[0].value, cached)
    }))
}
