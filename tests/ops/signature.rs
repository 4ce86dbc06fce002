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
    cpu: |call: &mut CpuCall| call.out::<f32>("y").fill(call.scalar("a")),
    gpu: Gpu::Library,
};

/// A slab of 8 zeros.
fn slab() -> (Device, Tensor) {
    let device = poisoned();
    let slab = Tensor::persistent(&device, [8], DType::F32).unwrap();
    (device, slab)
}

fn run(y: &Tensor, z: &Tensor, x: &Tensor) -> Result<()> {
    let launch = Launch::of(&PROBE).output("y", y).output("z", z).input("x", x);
    launch.size("n", 2).scalar("a", 1.5).run(y.device())
}

#[test]
fn arguments_that_touch_but_do_not_overlap_are_fine() {
    let (_device, slab) = slab();
    let part = |from| slab.slice(from, [2]).unwrap();
    run(&part(0), &part(2), &part(4)).unwrap();
    assert_eq!(slab.read::<f32>().unwrap(), [1.5, 1.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn arguments_go_by_name_and_not_by_order() {
    let (device, slab) = slab();
    let [y, z, x] = [0, 2, 4].map(|from| slab.slice(from, [2]).unwrap());
    let launch = Launch::of(&PROBE).scalar("a", 2.5).input("x", &x).output("z", &z);
    launch.output("y", &y).sizes([("n", 2)]).run(&device).unwrap();
    assert_eq!(slab.read::<f32>().unwrap()[..4], [2.5, 2.5, 0.0, 0.0]);
}

#[test]
fn a_wrong_name_a_missing_argument_and_one_given_twice_are_errors() {
    let (device, slab) = slab();
    let [y, z, x] = [0, 2, 4].map(|from| slab.slice(from, [2]).unwrap());
    let tensors = || Launch::of(&PROBE).output("y", &y).output("z", &z).input("x", &x);
    let full = || tensors().size("n", 2).scalar("a", 1.5);
    let launches = [
        ("output `z` is not given", Launch::of(&PROBE).output("y", &y).input("x", &x).size("n", 2)),
        (
            "input `x` is not given",
            Launch::of(&PROBE).output("y", &y).output("z", &z).size("n", 2).scalar("a", 1.5),
        ),
        ("size `n` is not given", tensors().scalar("a", 1.5)),
        ("scalar `a` is not given", tensors().size("n", 2)),
        ("no output `x`", full().output("x", &x)),
        ("no input `w`", full().input("w", &x)),
        ("no size `a`", full().size("a", 2)),
        ("no scalar `n`", full().scalar("n", 2.0)),
        ("input `x` is given twice", full().input("x", &x)),
        ("size `n` is given twice", full().size("n", 3)),
    ];
    for (what, launch) in launches {
        match launch.run(&device) {
            Err(Error::Internal(message)) => {
                assert!(message.contains("signature_probe") && message.contains(what), "{what}: {message}");
            }
            other => panic!("{what}: {other:?}"),
        }
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
    let launch = Launch::of(&PROBE).output("y", &y).output("z", &z).input("x", &x);
    let got = launch.size("n", 1 << 31).scalar("a", 1.5).run(&device);
    assert!(matches!(got, Err(Error::DoesNotFit(_))));
}
