//! Ranges in a profiler's timeline carry the labels of the tables.

use super::Run;
use crate::collective::Group;
use crate::device::Device;
use crate::device::cuda::nvtx::stand_in;
use crate::models::{self, ModelOptions};
use crate::trace::{Pass, Phase};
use crate::train::Sharing;
use crate::train::synthetic::Mode;
use crate::workload::{Sizes, StepSizes, Workload};
use std::path::Path;
use std::rc::Rc;

fn name(phase: Phase) -> String {
    match phase.pass {
        Pass::Forward => phase.label.to_string(),
        Pass::Backward => format!("{} backward", phase.label),
    }
}

#[test]
fn every_launch_is_in_the_range_of_its_phase() {
    if stand_in::start().is_none() {
        return println!("skipped: no C compiler");
    }
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/led_plain/config.json");
    let loaded = models::random(&config, &Device::cpu(), ModelOptions::default(), 1).unwrap();
    let sizes = StepSizes {
        mode: Mode::Train,
        batch_size: 1,
        max_source_length: 40,
        max_target_length: 7,
        sharing: Sharing::default(),
    };
    let mut work = sizes.load(loaded, ModelOptions::default(), 1, &Rc::new(Group::alone())).unwrap();
    // The first run plans as well: its phases are gone through twice.
    work.run().unwrap();
    let before = stand_in::heard().len();
    let run = Run::of(&mut work).unwrap();
    let heard = stand_in::heard().split_off(before);

    let begun = heard.iter().filter(|label| !label.is_empty()).count();
    assert!(begun > 20, "{begun} ranges");
    assert_eq!(begun, heard.len() - begun, "ranges that begin, and that end");
    // The innermost range after each of them begins or ends.
    let (mut open, mut innermost) = (Vec::new(), Vec::new());
    for label in heard {
        match label.is_empty() {
            true => assert!(open.pop().is_some(), "a range ends that did not begin"),
            false => open.push(label),
        }
        innermost.push(open.last().cloned().unwrap_or_default());
    }
    let mut innermost = innermost.iter();
    for slices in run.slices.chunk_by(|a, b| a.phase == b.phase) {
        let label = name(slices[0].phase);
        assert!(innermost.any(|range| *range == label), "{label} has no range in its place");
    }
}
