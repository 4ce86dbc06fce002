//! What a step of data parallel training takes at least on many GPUs: a model of the exchange, never a measurement.
//!
//! Every GPU computes its own batch, and the gradients of all are summed by rings (Patarasuk and Yuan 2009, Bandwidth
//! optimal all-reduce algorithms): among N, each moves 2 (N-1)/N of the bytes, in 2 (N-1) messages. Beyond a node the sum
//! is made in three: scattered within each node, among the nodes by each GPU with its part, and gathered within each node.
//! A bucket is summed while the backward pass goes on; what the backward pass is too short for, and at least the last
//! bucket, comes on top of the step.

use super::{BUCKET, CommunicationType};
use crate::units::Seconds;
use serde::{Deserialize, Serialize};

/// GPUs of a node, which NVLink joins.
const NODE: usize = 8;

/// What joins the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interconnect {
    /// One domain of NVLink switches over all GPUs.
    Nvlink,
    /// InfiniBand NDR, 400 Gbit/s for each GPU.
    Ib,
    /// Ethernet, 100 Gbit/s for a node's GPUs together.
    Ethernet,
}

/// A path from one GPU to the next.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Link {
    /// Bytes a second of a GPU, one way.
    bandwidth: f64,
    latency: Seconds,
}

/// NVLink by GPU, one way of the data sheet's both: generation 4, 3, and the bridge of two cards.
const NVLINK: [(&str, f64); 4] = [("h200", 450e9), ("h100", 450e9), ("a100", 300e9), ("a6000", 56.25e9)];

impl Interconnect {
    fn link(self, gpu: &str) -> Link {
        match self {
            Interconnect::Nvlink => {
                let known = NVLINK.iter().find(|(name, _)| *name == gpu);
                Link { bandwidth: known.map_or(NVLINK[3].1, |(_, rate)| *rate), latency: Seconds(2e-6) }
            }
            Interconnect::Ib => Link { bandwidth: 50e9, latency: Seconds(5e-6) },
            Interconnect::Ethernet => Link { bandwidth: 12.5e9 / NODE as f64, latency: Seconds(25e-6) },
        }
    }

    /// What the times of gradients in this type rest on, in a sentence.
    pub fn assumptions(self, gpu: &str, of: CommunicationType) -> String {
        let gigabytes = |link: Link| link.bandwidth / 1e9;
        let (within, between) = (Interconnect::Nvlink.link(gpu), self.link(gpu));
        format!(
            "Gradients in {of}, summed by rings in buckets of {} MiB beside the backward pass; nodes of {NODE} GPUs with {} \
             GB/s a GPU one way and {:.0} us a message, and between nodes {} GB/s and {:.0} us. All from data sheets; real \
             exchanges take longer, and waits for data, evaluations and checkpoints are not in it.",
            (BUCKET * of.size()) >> 20,
            gigabytes(within),
            within.latency.0 * 1e6,
            gigabytes(between),
            between.latency.0 * 1e6
        )
    }
}

/// A step on one GPU, as it is planned.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    pub all: Seconds,
    /// The part of it in which gradients come to be.
    pub backward: Seconds,
    /// Gradients, and the type in which they are exchanged.
    pub gradients: usize,
    pub communication: CommunicationType,
    /// Examples of one GPU.
    pub batch: usize,
}

/// The same on many; every number is predicted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Scaled {
    pub world_size: usize,
    #[serde(rename = "exchange_s")]
    pub exchange: Seconds,
    /// What of it the backward pass does not hide.
    #[serde(rename = "exposed_s")]
    pub exposed: Seconds,
    #[serde(rename = "least_step_s")]
    pub step: Seconds,
    /// The step on one GPU by that on many, each with its own batch.
    pub efficiency: f64,
    pub samples_per_second: f64,
}

/// The step on `size` GPUs called `gpu`.
pub fn scaled(step: Step, gpu: &str, between: Interconnect, size: usize) -> Scaled {
    let bytes = step.gradients as f64 * step.communication.size() as f64;
    let exchange = sum(bytes, gpu, between, size);
    let buckets = step.gradients.div_ceil(BUCKET).max(1) as f64;
    let exposed = Seconds((exchange.0 - step.backward.0 * (1.0 - 1.0 / buckets)).max(exchange.0 / buckets));
    let whole = step.all + exposed;
    Scaled {
        world_size: size,
        exchange,
        exposed,
        step: whole,
        efficiency: step.all.0 / whole.0,
        samples_per_second: (step.batch * size) as f64 / whole.0,
    }
}

/// The sizes of a curve: powers of two below `most`, and `most`.
pub fn sizes(most: usize) -> Vec<usize> {
    let powers = std::iter::successors(Some(1usize), |size| size.checked_mul(2));
    powers.take_while(|size| *size < most).chain([most]).collect()
}

/// The least time in which `size` GPUs sum `bytes`.
fn sum(bytes: f64, gpu: &str, between: Interconnect, size: usize) -> Seconds {
    let within = Interconnect::Nvlink.link(gpu);
    if size <= NODE || between == Interconnect::Nvlink {
        return ring(bytes, within, size);
    }
    let nodes = size.div_ceil(NODE);
    // Scattering and gathering are the two halves of a ring's sum.
    ring(bytes, within, NODE) + ring(bytes / NODE as f64, between.link(gpu), nodes)
}

fn ring(bytes: f64, link: Link, size: usize) -> Seconds {
    let others = (size - 1) as f64;
    Seconds(2.0 * others / size as f64 * bytes / link.bandwidth + 2.0 * others * link.latency.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Step = Step {
        all: Seconds(0.3),
        backward: Seconds(0.2),
        gradients: 1_000_000_000,
        communication: CommunicationType::Fp32,
        batch: 2,
    };

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-12 * b.abs().max(1e-9)
    }

    #[test]
    fn one_gpu_exchanges_nothing() {
        for between in [Interconnect::Nvlink, Interconnect::Ib, Interconnect::Ethernet] {
            let one = scaled(STEP, "h200", between, 1);
            assert_eq!((one.exchange.0, one.step, one.efficiency), (0.0, STEP.all, 1.0));
            assert!(close(one.samples_per_second, 2.0 / 0.3));
        }
    }

    /// By hand: 4 GB over NVLink among 2 is 4e9/450e9 s and two messages, of which one bucket in 239 shows.
    #[test]
    fn a_short_exchange_hides_behind_the_backward_pass() {
        let two = scaled(STEP, "h200", Interconnect::Ib, 2);
        let exchange = 4e9 / 450e9 + 2.0 * 2e-6;
        assert!(close(two.exchange.0, exchange));
        assert!(close(two.exposed.0, exchange / 239.0));
        assert!(close(two.efficiency, 0.3 / (0.3 + exchange / 239.0)));
    }

    #[test]
    fn bf16_is_half_the_bytes_in_as_many_buckets() {
        let half = Step { communication: CommunicationType::Bf16, ..STEP };
        let two = scaled(half, "h200", Interconnect::Ib, 2);
        let exchange = 2e9 / 450e9 + 2.0 * 2e-6;
        assert!(close(two.exchange.0, exchange) && close(two.exposed.0, exchange / 239.0));
        let said = Interconnect::Ib.assumptions("h200", CommunicationType::Bf16);
        assert!(said.starts_with("Gradients in bf16, summed by rings in buckets of 8 MiB"), "{said}");
    }

    /// Among 16 nodes of 8 over Ethernet, 1/8 of the bytes by 1/8 of 12.5 GB/s: the backward pass is far too short.
    #[test]
    fn a_slow_network_shows() {
        let many = scaled(STEP, "h200", Interconnect::Ethernet, 128);
        let within = 2.0 * 7.0 / 8.0 * 4e9 / 450e9 + 14.0 * 2e-6;
        let between = 2.0 * 15.0 / 16.0 * 0.5e9 / 1.5625e9 + 30.0 * 25e-6;
        assert!(close(many.exchange.0, within + between));
        assert!(close(many.exposed.0, within + between - 0.2 * (1.0 - 1.0 / 239.0)));
        assert!(many.efficiency < 0.5);
    }

    #[test]
    fn a_curve_ends_where_it_is_asked_to() {
        assert_eq!(sizes(1), [1]);
        assert_eq!(sizes(8), [1, 2, 4, 8]);
        assert_eq!(sizes(12), [1, 2, 4, 8, 12]);
    }
}
