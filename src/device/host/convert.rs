//! Conversions between storage types, on all threads.

use crate::shape::Stored;
use half::bf16;
use rayon::prelude::*;

/// Elements that a thread takes at a time.
const PART: usize = 1 << 15;

/// Copies bf16 to f32.
pub fn widen(to: &mut [f32], from: &[bf16]) {
    let part = |(to, from): (&mut [f32], &[bf16])| {
        to.iter_mut().zip(from).for_each(|(to, from)| *to = from.wide());
    };
    match to.len() <= PART {
        true => part((to, from)),
        false => to.par_chunks_mut(PART).zip(from.par_chunks(PART)).for_each(part),
    }
}

/// Rounds f32 to the nearest bf16, ties to even.
pub fn narrow(to: &mut [bf16], from: &[f32]) {
    let part = |(to, from): (&mut [bf16], &[f32])| {
        to.iter_mut().zip(from).for_each(|(to, from)| *to = bf16::narrow(*from));
    };
    match to.len() <= PART {
        true => part((to, from)),
        false => to.par_chunks_mut(PART).zip(from.par_chunks(PART)).for_each(part),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_that_of_half_for_every_upper_half() {
        for low in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
            let wide: Vec<f32> = (0..1 << 16).map(|high| f32::from_bits(high << 16 | low)).collect();
            let mut got = vec![bf16::ZERO; wide.len()];
            narrow(&mut got, &wide);
            for (x, got) in wide.iter().zip(&got) {
                assert_eq!(got.to_bits(), bf16::from_f32(*x).to_bits(), "{:08x}", x.to_bits());
            }
            let mut back = vec![0f32; got.len()];
            widen(&mut back, &got);
            let same = |(back, got): (&f32, &bf16)| back.to_bits() == u32::from(got.to_bits()) << 16;
            assert!(back.iter().zip(&got).all(same));
        }
    }
}
