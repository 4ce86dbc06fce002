//! Which parts of a slab of gradients are final while the backward pass goes on, so that ranks can sum them meanwhile.
//!
//! How often a pass writes each gradient is counted once; what launches the same writes as often.

use crate::error::{Error, Result};
use crate::tensor::Node;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

/// How often a backward pass writes the gradient of each parameter.
#[derive(Debug, Default)]
pub struct Writes(HashMap<Node, u32>);

impl Writes {
    pub(super) fn of(&self, node: Node) -> u32 {
        self.0.get(&node).copied().unwrap_or(0)
    }
}

/// Ranges of `size` of `len` elements, and one of what is left, from the end: the last parameters' gradients come first.
pub fn buckets(len: usize, size: usize) -> Vec<Range<usize>> {
    let ends = (0..len.div_ceil(size)).map(|turn| len - turn * size);
    ends.map(|end| end.saturating_sub(size)..end).collect()
}

/// What is done with a range of a slab whose gradients are final.
pub type Act = Box<dyn FnMut(&Range<usize>) -> Result<()>>;

/// A backward pass as far as it is.
pub(super) struct Progress {
    seen: Writes,
    /// What such a pass writes, where that is known.
    known: Option<Rc<Writes>>,
    buckets: Rc<[Range<usize>]>,
    /// By bucket, its parameters that are still to be written.
    open: Vec<usize>,
    /// Parameters whose last write the step in hand has begun.
    last: Vec<Range<usize>>,
    /// Buckets that were acted on, in their order.
    done: usize,
    act: Act,
}

impl Progress {
    /// A pass that is about to begin; `parameters` are all, by their places in the slab.
    pub fn new(
        known: Option<Rc<Writes>>,
        buckets: Rc<[Range<usize>]>,
        parameters: &[(Node, Range<usize>)],
        act: Act,
    ) -> Self {
        let written = |node: Node| known.as_ref().is_none_or(|known| known.of(node) > 0);
        let of = |bucket: &Range<usize>| {
            parameters.iter().filter(|(node, at)| written(*node) && overlap(at, bucket)).count()
        };
        let open = buckets.iter().map(of).collect();
        Progress { seen: Writes::default(), known, buckets, open, last: Vec::new(), done: 0, act }
    }

    /// The step in hand writes the gradient of `node`, at `place`.
    pub fn writes(&mut self, node: Node, place: &Range<usize>) -> Result<()> {
        let seen = self.seen.0.entry(node).or_default();
        *seen += 1;
        match self.known.as_ref().map(|known| known.of(node)) {
            Some(known) if *seen > known => Err(Error::internal(format!(
                "a gradient is written {seen} times, and was {known} times before"
            ))),
            Some(known) if *seen == known => {
                self.last.push(place.clone());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The step in hand is over.
    pub fn advance(&mut self) -> Result<()> {
        for place in self.last.drain(..) {
            for (bucket, open) in self.buckets.iter().zip(&mut self.open) {
                *open -= usize::from(overlap(&place, bucket));
            }
        }
        while self.known.is_some() && self.open.get(self.done) == Some(&0) {
            (self.act)(&self.buckets[self.done])?;
            self.done += 1;
        }
        Ok(())
    }

    /// What the pass wrote, and how many buckets were acted on.
    pub fn finish(self) -> (Writes, usize) {
        (self.seen, self.done)
    }
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn buckets_cover_a_slab_from_its_end() {
        assert_eq!(buckets(10, 4), [6..10, 2..6, 0..2]);
        assert_eq!(buckets(8, 4), [4..8, 0..4]);
        assert_eq!(buckets(5, 4), [1..5, 0..1]);
        assert!(buckets(0, 4).is_empty());
    }

    /// Three parameters in buckets of 4: the second is written twice, and the third never.
    #[test]
    fn a_bucket_is_acted_on_when_its_last_write_is_over_and_those_before_it_are() {
        let nodes = [(); 3].map(|()| Node::fresh());
        let parameters = [(nodes[0], 0..3), (nodes[1], 3..6), (nodes[2], 8..10)];
        let pass = |known: Option<Rc<Writes>>| {
            let acted: Rc<RefCell<Vec<Range<usize>>>> = Rc::default();
            let seen = acted.clone();
            let act = Box::new(move |range: &Range<usize>| {
                seen.borrow_mut().push(range.clone());
                Ok(())
            });
            let mut progress = Progress::new(known, buckets(10, 4).into(), &parameters, act);
            let mut counts = Vec::new();
            for which in [1, 0, 1] {
                progress.writes(nodes[which], &parameters[which].1).unwrap();
                progress.advance().unwrap();
                counts.push(acted.borrow().len());
            }
            (progress, counts, acted)
        };
        let (progress, counts, _) = pass(None);
        assert_eq!(counts, [0; 3]);
        let (writes, done) = progress.finish();
        assert_eq!((nodes.map(|node| writes.of(node)), done), ([1, 2, 0], 0));
        let (mut progress, counts, acted) = pass(Some(Rc::new(writes)));
        assert_eq!((counts, acted.take()), (vec![1, 1, 3], vec![6..10, 2..6, 0..2]));
        assert!(progress.writes(nodes[0], &(0..3)).is_err());
        assert_eq!(progress.finish().1, 3);
    }
}
