//! Sums of gradients over ranks on GPUs: bucket by bucket from the end of the slab, which is about the order in which a
//! backward pass makes gradients final, and each begins when its bucket is.
//!
//! Sums in another type than that of the gradients are of a copy, which is rounded on the GPU when the bucket's sum begins,
//! and put back when all are there.
//!
//! Where each rank has a part of the optimizer's state, each sum goes to the rank that updates with it, and no bucket is of
//! two ranks.
//!
//! Every rank begins the same sums in the same order, whatever its batch is: one that does not know yet how often such a
//! pass writes, or has no batch, begins them after the pass.

use super::shard::RankLayout;
use crate::collective;
use crate::device::{Device, Exchange};
use crate::error::Result;
use crate::models::session::Signature;
use crate::nn::STEP;
use crate::tape::{Writes, buckets};
use crate::tensor::Tensor;
use crate::tensor::cast::{cast, cast_to_f32};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

/// Elements of a bucket; the models of tests are small.
const BUCKET: usize = if cfg!(test) { 1 << 10 } else { collective::BUCKET };

/// The sums of a slab of gradients, as far as they have begun.
pub(super) struct Sums {
    /// What is exchanged in place of the slab, where it is not the slab itself.
    copy: Option<Tensor>,
    buckets: Rc<[Range<usize>]>,
    /// By rank, the elements whose sums go to it; nothing where all get all.
    owners: Rc<[Range<usize>]>,
    begun: Cell<usize>,
    /// What a pass writes, by the step that it is part of.
    known: RefCell<HashMap<Signature, Rc<Writes>>>,
}

impl Sums {
    /// Of a slab of `len` elements on `device`, which are exchanged as `layout` says.
    pub fn new(device: &Device, len: usize, layout: RankLayout) -> Result<Self> {
        let owners = layout.owners(len, STEP)?;
        let starts = owners.iter().map(|part| part.start);
        Ok(Sums {
            copy: layout.exchanged.map(|dtype| Tensor::persistent(device, [len], dtype)).transpose()?,
            buckets: cut(buckets(len, BUCKET), starts).into(),
            owners: owners.into(),
            begun: Cell::new(0),
            known: RefCell::default(),
        })
    }

    /// In the order of their sums.
    pub fn buckets(&self) -> Rc<[Range<usize>]> {
        self.buckets.clone()
    }

    /// Whether each goes to one rank alone.
    pub fn are_shared_out(&self) -> bool {
        !self.owners.is_empty()
    }

    /// How many have begun.
    #[cfg(test)]
    pub fn begun(&self) -> usize {
        self.begun.get()
    }

    /// What the pass of `step` writes, if one was seen.
    pub fn known(&self, step: &Signature) -> Option<Rc<Writes>> {
        self.known.borrow().get(step).cloned()
    }

    /// The pass of `step` has written so, and begun so many sums.
    pub fn note(&self, step: &Signature, (writes, begun): (Writes, usize)) {
        self.begun.set(begun);
        self.known.borrow_mut().entry(step.clone()).or_insert_with(|| Rc::new(writes));
    }

    /// What begins to sum a bucket of `slab`.
    pub fn act(&self, slab: &Tensor) -> impl FnMut(&Range<usize>) -> Result<()> + 'static {
        let (slab, copy, owners) = (slab.clone(), self.copy.clone(), self.owners.clone());
        move |bucket| {
            let of = |whole: &Tensor| whole.slice(bucket.start, [bucket.len()]);
            let part = of(&slab)?;
            let exchanged = match &copy {
                None => part,
                Some(copy) => {
                    let rounded = of(copy)?;
                    cast(&rounded, &part)?;
                    rounded
                }
            };
            let (len, dtype) = (bucket.len(), exchanged.dtype());
            exchanged.begin_exchange(&match owners.iter().position(|part| part.contains(&bucket.start)) {
                Some(rank) => Exchange::Reduce(len, dtype, rank),
                None => Exchange::Sum(len, dtype),
            })
        }
    }

    /// Begins those that have not begun; the next step begins anew.
    pub fn begin_rest(&self, slab: &Tensor) -> Result<()> {
        self.buckets[self.begun.replace(0)..].iter().try_for_each(self.act(slab))
    }

    /// Puts the sums in `slab`, when all are there.
    pub fn take(&self, slab: &Tensor) -> Result<()> {
        self.copy.as_ref().map_or(Ok(()), |copy| cast_to_f32(slab, copy))
    }
}

/// The same ranges, from the end of the slab on, none of which goes on past one of `starts`.
fn cut(ranges: Vec<Range<usize>>, starts: impl Iterator<Item = usize> + Clone) -> Vec<Range<usize>> {
    let mut all = Vec::new();
    for range in ranges {
        let within = starts.clone().filter(|start| *start > range.start && *start < range.end);
        let mut bounds: Vec<usize> = within.chain([range.start, range.end]).collect();
        bounds.sort_unstable();
        all.extend(bounds.windows(2).rev().map(|bounds| bounds[0]..bounds[1]));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bucket_is_of_two_ranks() {
        assert_eq!(cut(vec![6..10, 2..6, 0..2], [].into_iter()), [6..10, 2..6, 0..2]);
        assert_eq!(cut(vec![6..10, 2..6, 0..2], [0, 4, 8].into_iter()), [8..10, 6..8, 4..6, 2..4, 0..2]);
        assert_eq!(cut(vec![9..12, 0..9], [0, 3, 6].into_iter()), [9..12, 6..9, 3..6, 0..3]);
    }
}
