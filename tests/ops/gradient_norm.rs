use crate::ops::case::on_threads;
use crate::ops::device::poisoned;
use crate::support::compare::{assert_close, random, widened};
use wattention::ops::gradient_norm::gradient_norm;
use wattention::tensor::Tensor;

fn norm(g: &[f32]) -> f32 {
    // A view, and not at the start of its block.
    let block = [&[f32::NAN], g].concat();
    let block = Tensor::upload(&poisoned(), [block.len()], &block).unwrap();
    gradient_norm(&block.slice(1, [g.len()]).unwrap()).unwrap().read::<f32>().unwrap()[0]
}

#[test]
fn values() {
    // The squares of 1e30 and of 1e-30 leave the range of f32; their norm does not.
    for (n, scale) in [(1, 1.0), (5, 1.0), (100_001, 1.0), (1000, 1e30), (1000, 1e-30)] {
        let g: Vec<f32> = random(8, n).iter().map(|g| g * scale).collect();
        let want = widened(&g).iter().map(|g| g * g).sum::<f64>().sqrt();
        // Summed in f64: only the result is rounded.
        assert_close(&format!("norm of {n} by {scale}"), &[norm(&g)], &[want], 0);
        let [one, two] = [1, 2].map(|threads| on_threads(threads, || norm(&g)));
        assert_eq!(one.to_bits(), two.to_bits(), "threads change the bits");
    }
    assert_eq!(norm(&[0.0; 3]), 0.0);
    assert!(norm(&[1.0, f32::NAN]).is_nan(), "a NaN gradient must show");
}
