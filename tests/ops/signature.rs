//! Launches are checked against the kernel's signature and against aliasing, before anything runs.

use crate::ops::device::poisoned;
use wattention::device::{CpuCall, Device, Gpu, Kernel};
use wattention::error::{Error, Result};
use wattention::shape::DType;
use wattention::tensor::{Launch, Tensor};

static PROBE: Kernel = Kernel {
    name: "signature_probe",
    outputs: &["y", "z"],
    inputs: &["x"],
    sizes: &["n"],
    scalars: &["a"],
    cpu: |call: &mut CpuCall| call.out::<f32>(0).fill(call.scalar(0)),
    gpu: Gpu::Library,
};

/// A slab of 8 zeros.
fn slab() -> (Device, Tensor) {
    let device = poisoned();
    let slab = Tensor::persistent(&device, [8], DType::F32).unwrap();
    (device, slab)
}

fn run(y: &Tensor, z: &Tensor, x: &Tensor) -> Result<()> {
    let launch = Launch::of(&PROBE).output(y).output(z).input(x);
    launch.size(2).scalar(1.5).run(y.device())
}

#[test]
fn arguments_that_touch_but_do_not_overlap_are_fine() {
    let (_device, slab) = slab();
    let part = |from| slab.slice(from, [2]).unwrap();
    run(&part(0), &part(2), &part(4)).unwrap();
    assert_eq!(slab.read::<f32>().unwrap(), [1.5, 1.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn another_number_of_arguments_is_an_error() {
    let (device, slab) = slab();
    let [y, z, x] = [0, 2, 4].map(|from| slab.slice(from, [2]).unwrap());
    let full = || Launch::of(&PROBE).output(&y).output(&z).input(&x);
    let launches = [
        ("an output too few", Launch::of(&PROBE).output(&y).input(&x).size(2).scalar(1.5)),
        ("an input too many", full().input(&x).size(2).scalar(1.5)),
        ("no input", Launch::of(&PROBE).output(&y).output(&z).size(2).scalar(1.5)),
        ("no size", full().scalar(1.5)),
        ("two sizes for one", full().size(2).size(2).scalar(1.5)),
        ("no scalar", full().size(2)),
    ];
    for (what, launch) in launches {
        let got = launch.run(&device);
        assert!(matches!(got, Err(Error::Shape { op: "signature_probe", .. })), "{what}");
    }
    assert_eq!(slab.read::<f32>().unwrap(), [0.0; 8], "a refused launch ran");
}

#[test]
fn an_output_that_overlaps_anything_is_an_error() {
    let (_device, slab) = slab();
    let part = |from, len| slab.slice(from, [len]).unwrap();
    let overlapping = [
        ("in place", run(&part(0, 2), &part(2, 2), &part(0, 2))),
        ("by one element", run(&part(0, 3), &part(4, 2), &part(2, 2))),
        ("inside", run(&part(0, 2), &part(2, 6), &part(4, 1))),
        ("two outputs", run(&part(0, 2), &part(1, 2), &part(4, 2))),
    ];
    for (what, got) in overlapping {
        assert!(matches!(got, Err(Error::Internal(m)) if m.contains("overlaps")), "{what}");
    }
    assert_eq!(slab.read::<f32>().unwrap(), [0.0; 8], "a refused launch ran");
}

#[test]
fn a_size_above_an_int_is_an_error() {
    let (device, slab) = slab();
    let [y, z, x] = [0, 2, 4].map(|from| slab.slice(from, [2]).unwrap());
    let launch = Launch::of(&PROBE).output(&y).output(&z).input(&x);
    let got = launch.size(1 << 31).scalar(1.5).run(&device);
    assert!(matches!(got, Err(Error::DoesNotFit(_))));
}
