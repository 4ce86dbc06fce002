//! Every place of a panel beside what it should hold, with vectors and without.

use super::*;
use crate::device::cpu::features::with_ever_more;
use crate::noise::random;

fn check<E: Words>(data: &[E]) {
    for (across, along) in [(1, 61), (61, 1), (67, 1), (53, 2)] {
        for (width, depth, first) in [(64, 64, 0), (64, 64, 32), (45, 40, 32), (16, 32, 0), (1, 1, 0)] {
            let source = PanelSource { data, across, along, width, depth };
            let words = depth.div_ceil(VALUES) * E::PARTS * WORDS;
            for is_left in [true, false] {
                let mut panel = vec![f32::NAN; 2 * words];
                match is_left {
                    true => left(&mut panel, source, first, 2 * SIDE),
                    false => right(&mut panel, source, first, 2 * SIDE),
                }
                for number in 0..2 * SIDE {
                    for d in 0..depth.next_multiple_of(VALUES) {
                        let want = match first + number < width && d < depth {
                            true => data[(first + number) * across + d * along].parts(),
                            false => [bf16::ZERO; MOST],
                        };
                        let (line, word) = (number % SIDE, d % VALUES / 2);
                        let place = if is_left { line * SIDE + word } else { word * SIDE + line };
                        let tiles = number / SIDE * words + d / VALUES * E::PARTS * WORDS;
                        for (part, want) in want[..E::PARTS].iter().enumerate() {
                            let got =
                                panel[tiles + part * WORDS + place].to_bits() >> (16 * (d % 2)) & 0xffff;
                            assert_eq!(got, u32::from(want.to_bits()), "{number}, {d} of {width}x{depth}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn panels_of_both_orientations_and_ragged_ends() {
    let awkward = [
        0.0,
        -0.0,
        1e-40,
        f32::MIN_POSITIVE,
        f32::MAX,
        f32::MIN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::from_bits(0x7f80_0001),
        f32::from_bits(0xffff_ffff),
    ];
    let mut values = random(5, 5000);
    values.iter_mut().step_by(7).zip(awkward.iter().cycle()).for_each(|(x, &y)| *x = y);
    let narrow: Vec<bf16> = (0..5000u16).map(|i| bf16::from_bits(i.wrapping_mul(40503))).collect();
    with_ever_more(|| {
        check(&values);
        check(&narrow);
    });
}

#[test]
fn parts_sum_to_the_value() {
    let many = random(4, 4000);
    let values =
        many.iter().copied().chain([0.0, -0.0, 1e-30, 3.0e38, f32::MAX, f32::MIN, 1.0 + f32::EPSILON]);
    for x in values {
        let sum: f64 = split(x).iter().map(|&part| f64::from(part.wide())).sum();
        let unit = f64::from(x.abs()) * f64::from(f32::EPSILON);
        assert!((sum - f64::from(x)).abs() <= unit, "{x:e} is {sum:e} in parts");
    }
    for x in [f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(split(x), [bf16::from_f32(x), bf16::ZERO, bf16::ZERO]);
    }
    assert!(split(f32::NAN)[0].is_nan());
}
