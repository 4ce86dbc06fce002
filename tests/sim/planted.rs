//! `kernels/sim/planted.cu`, fault by fault.

use std::rc::Rc;
use wattention::device::sim::{Order, Sim};
use wattention::device::{Call, CpuCall, Device, Gpu, Kernel, Pass, Precision};
use wattention::error::Result;
use wattention::shape::DType;
use wattention::tensor::{Launch, Tensor};

/// Runs of one kernel over x = 1, 2, .. n, in three orders of threads and blocks.
pub struct Runs {
    pub outcomes: Vec<Result<Vec<u32>>>,
}

const ORDERS: [Order; 3] = [Order::Forward, Order::Reverse, Order::Shuffled(7)];

pub fn run(kernel: &'static Kernel, n: usize) -> Runs {
    let outcome = |order| {
        let sim = Sim::new(Precision::Fp32)?;
        sim.set_order(order);
        let device = Device::new(Rc::new(sim));
        let x: Vec<f32> = (1..=n).map(|i| i as f32).collect();
        let x = Tensor::upload(&device, [n], &x)?;
        let y = Tensor::empty(&device, [n], DType::F32)?;
        Launch::of(kernel).output("y", &y).input("x", &x).size("n", n).run(&device)?;
        Ok(y.read::<f32>()?.iter().map(|y| y.to_bits()).collect())
    };
    Runs { outcomes: ORDERS.map(outcome).into() }
}

impl Runs {
    /// Every order fails with a message that contains all of `parts`.
    pub fn fails_with(&self, parts: &[&str]) {
        for (outcome, order) in self.outcomes.iter().zip(ORDERS) {
            let message = match outcome {
                Ok(_) => panic!("{order:?}: nothing was noticed"),
                Err(e) => e.to_string(),
            };
            for part in parts {
                assert!(message.contains(part), "{order:?}: `{part}` is not in: {message}");
            }
        }
    }

    /// NaN in a result, or other bits in another order: what every kernel test looks for.
    pub fn shows_in_the_bits(&self) {
        let all: Vec<&Vec<u32>> = self.outcomes.iter().map(|o| o.as_ref().unwrap()).collect();
        let nan = all.iter().any(|bits| bits.iter().any(|&b| f32::from_bits(b).is_nan()));
        let differ = all.iter().any(|bits| bits != &all[0]);
        assert!(nan || differ, "the same finite values in every order");
    }

    /// Some order fails or gives NaN or other bits than the others.
    pub fn is_noticed(&self) {
        if self.outcomes.iter().all(Result::is_ok) {
            self.shows_in_the_bits();
        }
    }
}

/// The descriptor of the planted kernel `$name`, which `$passes` launches.
macro_rules! descriptor {
    ($name:literal, $passes:ident) => {{
        fn cpu(_: &mut CpuCall) {}
        static KERNEL: Kernel = Kernel {
            name: $name,
            outputs: &["y"],
            inputs: &["x"],
            sizes: &["n"],
            scalars: &[],
            cpu,
            gpu: Gpu::Passes($passes),
        };
        &KERNEL
    }};
}

/// A descriptor of the planted kernel `$name`: blocks of `$threads` threads, each with `$per` elements; 64 of both where
/// they are left out.
macro_rules! planted {
    ($name:literal, $shared:expr) => {
        planted!($name, 64, 64, $shared)
    };
    ($name:literal, $threads:literal, $per:literal, $shared:expr) => {{
        fn passes(call: &Call) -> Vec<Pass> {
            vec![Pass::new($name, call.size("n").div_ceil($per), $threads).shared($shared)]
        }
        descriptor!($name, passes)
    }};
}

pub(crate) use {descriptor, planted};

#[test]
fn a_kernel_without_a_fault_gives_the_same_in_every_order() {
    let runs = run(planted!("planted_none", 256), 128);
    let want: Vec<u32> = (0..128).map(|i| ((i / 64 * 64 + 63 - i % 64 + 1) as f32).to_bits()).collect();
    for outcome in &runs.outcomes {
        assert_eq!(outcome.as_ref().unwrap(), &want);
    }
}

#[test]
fn missing_barriers_show() {
    run(planted!("planted_missing_barrier", 256), 128).shows_in_the_bits();
    run(planted!("planted_missing_second_barrier", 256), 128).shows_in_the_bits();
}

#[test]
fn reads_and_writes_outside_of_a_tensor_are_named() {
    let past = planted!("planted_read_past_the_end", 0);
    run(past, 160).fails_with(&[
        "planted_read_past_the_end",
        "block (2, 0, 0), thread 32",
        "byte 640 of `x`",
    ]);
    let past = planted!("planted_write_past_the_end", 0);
    run(past, 160).fails_with(&["planted_write_past_the_end", "thread 32", "byte 640 of `y`, which has 640"]);
    // Not a multiple of 16 bytes: the next ones can be written, and are looked at afterwards.
    run(planted!("planted_write_past_the_end", 0), 161).fails_with(&["wrote outside of `y`"]);
    // Likewise before the start, where the tensor does not begin its page.
    run(planted!("planted_read_before_the_start", 0), 64).shows_in_the_bits();
    let page = run(planted!("planted_read_before_the_start", 0), 1024);
    page.fails_with(&["block (0, 0, 0), thread 0", "byte -4 of `x`"]);
}

#[test]
fn a_read_just_past_the_end_gives_nan() {
    let runs = run(planted!("planted_read_past_the_end", 0), 161);
    assert!(runs.outcomes.iter().all(Result::is_ok), "161 floats leave 12 bytes that can be read");
}

#[test]
fn warps_that_never_meet_are_named() {
    let wrong = run(planted!("planted_wrong_mask", 0), 128);
    wrong.fails_with(&["planted_wrong_mask", "thread 0", "__shfl_xor_sync", "thread 16 has returned"]);
    let two = run(planted!("planted_two_masks", 0), 64);
    two.fails_with(&["planted_two_masks", "mismatched warp", "thread 0", "thread 1", "0xffffffff"]);
}

#[test]
fn barriers_that_not_all_reach_are_named() {
    let divergent = run(planted!("planted_divergent_barrier", 0), 64);
    divergent.fails_with(&[
        "divergent barrier",
        "thread 0",
        "__syncthreads at planted.cu",
        "thread 32 has returned",
    ]);
    let two = run(planted!("planted_two_barriers", 0), 64);
    two.fails_with(&["divergent barrier", "thread 32 waits at __syncthreads at planted.cu"]);
}

#[test]
fn copies_that_nobody_waits_for_show() {
    run(planted!("planted_missing_wait", 1024), 256).shows_in_the_bits();
    run(planted!("planted_wait_for_another_group", 1024), 256).shows_in_the_bits();
    let never = run(planted!("planted_copy_never_waited_for", 1024), 256);
    never.fails_with(&["1 asynchronous copies that it never waited for"]);
}

#[test]
fn misaligned_vectors_are_named() {
    run(planted!("planted_misaligned_vector", 0), 64).fails_with(&["misaligned"]);
}

#[test]
fn shared_memory_has_an_end() {
    run(planted!("planted_shared_past_the_end", 256), 64).fails_with(&["thread 63", "shared memory"]);
}

#[test]
fn a_broken_contract_is_named() {
    run(planted!("planted_broken_contract", 0), 64)
        .fails_with(&["planted_broken_contract", "breaks the kernel's contract"]);
}

#[test]
fn blocks_that_race_show() {
    run(planted!("planted_race_between_blocks", 0), 256).shows_in_the_bits();
}

#[test]
fn a_division_by_zero_is_named() {
    run(planted!("planted_division_by_zero", 0), 64).fails_with(&["thread 0", "divided an integer by zero"]);
}

#[test]
fn a_launch_beyond_the_limits_of_a_gpu_is_refused() {
    fn none(_: &mut CpuCall) {}
    fn wide(_: &Call) -> Vec<Pass> {
        vec![Pass::new("planted_none", 1, 2048)]
    }
    fn hungry(_: &Call) -> Vec<Pass> {
        vec![Pass::new("planted_none", 1, 64).shared(200 << 10)]
    }
    fn tall(_: &Call) -> Vec<Pass> {
        vec![Pass::new("planted_none", 1, 64).y(65536)]
    }
    const fn beyond(passes: fn(&Call) -> Vec<Pass>) -> Kernel {
        let (outputs, inputs, sizes): (&[_], &[_], &[_]) = (&["y"], &["x"], &["n"]);
        Kernel { name: "beyond", outputs, inputs, sizes, scalars: &[], cpu: none, gpu: Gpu::Passes(passes) }
    }
    static KERNELS: [Kernel; 3] = [beyond(wide), beyond(hungry), beyond(tall)];
    for kernel in &KERNELS {
        run(kernel, 64).fails_with(&["more than a GPU launches"]);
    }
}

#[test]
fn arguments_of_another_type_are_refused() {
    fn none(_: &mut CpuCall) {}
    fn passes(_: &Call) -> Vec<Pass> {
        vec![Pass::new("planted_none", 1, 64).shared(256)]
    }
    static SWAPPED: Kernel = Kernel {
        name: "swapped",
        outputs: &["y", "x"],
        inputs: &[],
        sizes: &["n"],
        scalars: &[],
        cpu: none,
        gpu: Gpu::Passes(passes),
    };
    let device = Device::new(Rc::new(Sim::new(Precision::Fp32).unwrap()));
    let [y, x] = [0, 1].map(|_| Tensor::empty(&device, [64], DType::F32).unwrap());
    let outcome = Launch::of(&SWAPPED).output("y", &y).output("x", &x).size("n", 64).run(&device);
    assert!(outcome.unwrap_err().to_string().contains("planted_none takes fFn in 24 bytes"));
}
