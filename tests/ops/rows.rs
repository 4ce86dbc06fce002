use crate::ops::case::check;
use crate::ops::device::poisoned;
use wattention::cases::tables::Rows;
use wattention::device::Device;
use wattention::error::Error;
use wattention::ops::rows;
use wattention::shape::DType;
use wattention::tape::Tape;
use wattention::tensor::{Node, Tensor};

#[test]
fn gradients() {
    for sizes in Rows::all() {
        let (c, index) = (sizes.c, sizes.index.clone());
        check(&sizes.clone().gather(), &|x| {
            let from = |&i: &i32| match i {
                -1 => vec![0.0; c],
                i => x[0][i as usize * c..][..c].to_vec(),
            };
            vec![index.iter().flat_map(from).collect()]
        });
        check(&sizes.scatter_add(), &|x| {
            let mut out = x[0].clone();
            for (row, &i) in x[1].chunks(c).zip(&index).filter(|(_, i)| **i >= 0) {
                (0..c).for_each(|channel| out[i as usize * c + channel] += row[channel]);
            }
            vec![out]
        });
    }
}

fn upload(beside: &Tensor, index: &[i32]) -> Tensor {
    Tensor::upload(beside.device(), [index.len()], index).unwrap()
}

fn matrix(device: &Device, shape: [usize; 2], values: &[f32]) -> Tensor {
    Tensor::upload(device, shape, values).unwrap()
}

#[test]
fn store_overwrites_the_named_rows_only() {
    let device = poisoned();
    let cache = matrix(&device, [3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let new = matrix(&device, [2, 2], &[-1.0, -2.0, -3.0, -4.0]);
    let index = upload(&cache, &[2, 0]);
    rows::store(&Tape::off(), &cache, &new, Some(&index)).unwrap();
    assert_eq!(cache.read::<f32>().unwrap(), [-3.0, -4.0, 3.0, 4.0, -1.0, -2.0]);
    let last = matrix(&device, [3, 2], &[7.0, 7.0, 5.0, 5.0, 8.0, 8.0]);
    rows::store(&Tape::off(), &cache, &last, Some(&upload(&cache, &[1, 2, 1]))).unwrap();
    assert_eq!(cache.read::<f32>().unwrap(), [-3.0, -4.0, 8.0, 8.0, 5.0, 5.0], "the last of equals");
    let all = matrix(&device, [3, 2], &[9.0; 6]);
    rows::store(&Tape::off(), &cache, &all, None).unwrap();
    assert_eq!(cache.read::<f32>().unwrap(), [9.0; 6]);
}

#[test]
fn store_refuses_a_value_that_needs_a_gradient() {
    let device = poisoned();
    let cache = matrix(&device, [1, 2], &[0.0; 2]);
    let new = matrix(&device, [1, 2], &[1.0; 2]).with_node(Some(Node::fresh()));
    let index = upload(&cache, &[0]);
    for index in [None, Some(&index)] {
        let got = rows::store(&Tape::gradients(), &cache, &new, index);
        assert!(matches!(got, Err(Error::NoGradient { op: "rows_store", .. })));
        assert_eq!(cache.read::<f32>().unwrap(), [0.0; 2], "refused, yet written");
    }
    rows::store(&Tape::off(), &cache, &new, None).unwrap();
    let plain = matrix(&device, [1, 2], &[2.0; 2]);
    rows::store(&Tape::gradients(), &cache, &plain, None).unwrap();
    assert_eq!(cache.read::<f32>().unwrap(), [2.0; 2]);
}

#[test]
fn rows_that_do_not_fit_are_errors() {
    let device = poisoned();
    let new = |shape: [usize; 2]| Tensor::persistent(&device, shape, DType::F32).unwrap();
    let tape = Tape::off();
    let index = upload(&new([1, 1]), &[0, 1]);
    // Other widths, fewer rows than the index names.
    for y in [[2, 3], [1, 4]] {
        assert!(rows::scatter_add(&tape, new([5, 4]), &new(y), &index).is_err());
        assert!(rows::store(&tape, &new([5, 4]), &new(y), Some(&index)).is_err());
    }
    assert!(rows::store(&tape, &new([5, 4]), &new([4, 4]), None).is_err());
}
