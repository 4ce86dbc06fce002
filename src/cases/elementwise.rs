//! Activations, dropout and layer normalisation.

use super::{Case, DROPOUT, Input, Site};
use crate::ops::activation::{self, Activation as Kind};
use crate::ops::dropout;
use crate::ops::layer_norm::{Affine, layer_norm, residual_layer_norm};

#[derive(Debug, Clone, Copy)]
pub struct Activation {
    pub kind: Kind,
    pub n: usize,
}

impl Activation {
    pub fn all() -> Vec<Self> {
        let kinds = [Kind::Gelu, Kind::GeluNew, Kind::Relu];
        // 5000 elements are more than one task, and more than one block.
        kinds.into_iter().flat_map(|kind| [1, 7, 5000].map(|n| Activation { kind, n })).collect()
    }

    pub fn case(self) -> Case {
        let Activation { kind, n } = self;
        Case {
            op: "activation",
            name: format!("{kind:?} {n}"),
            inputs: vec![Input { scale: 4.0, ..Input::activation([n]) }],
            forward: Box::new(move |tape, x| Ok(vec![activation::activation(tape, &x[0], kind)?])),
            terms: 1,
            cancelling: 0.0,
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    pub n: usize,
    pub at: Site,
}

impl Dropout {
    pub fn all() -> Vec<Self> {
        // 20000 elements are more than one task.
        let sizes = [(1, 0.5), (7, 0.25), (20000, 0.1)];
        sizes.map(|(n, p)| Dropout { n, at: Site { p, ..DROPOUT } }).into()
    }

    pub fn case(self) -> Case {
        Case {
            op: "dropout",
            name: format!("{}, p {}", self.n, self.at.p),
            inputs: vec![Input::activation([self.n])],
            forward: Box::new(move |tape, x| {
                Ok(vec![dropout::dropout(tape, &x[0], self.at.on(x[0].device())?)?])
            }),
            terms: 1,
            cancelling: 0.0,
        }
    }
}

/// Which outputs a layer norm has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// y = LN(x).
    Plain,
    /// s and y of s = x + dropout(a), as in pre-norm layers.
    Both,
    /// y alone, as in post-norm layers.
    Normed,
}

#[derive(Debug, Clone, Copy)]
pub struct LayerNorm {
    pub n: usize,
    pub c: usize,
    pub form: Form,
    pub at: Site,
}

impl LayerNorm {
    pub const EPS: f32 = 1e-5;

    pub fn all() -> Vec<Self> {
        let off = Site::OFF;
        // A single element, a short row, several tasks of rows.
        let short = [[1, 1], [1, 5], [3, 16], [70, 33]].into_iter().flat_map(|[n, c]| {
            let plain = LayerNorm { n, c, form: Form::Plain, at: off };
            let residual = [off, DROPOUT]
                .into_iter()
                .flat_map(move |at| [Form::Both, Form::Normed].map(|form| LayerNorm { n, c, form, at }));
            std::iter::once(plain).chain(residual)
        });
        // Rows of several steps of a warp, in whole vectors or not, and so long that a block holds fewer of them.
        let long = [[6, 260], [9, 1030], [3, 6400]];
        short.chain(long.map(|[n, c]| LayerNorm { n, c, form: Form::Both, at: DROPOUT })).collect()
    }

    pub fn case(self) -> Case {
        let LayerNorm { n, c, form, at } = self;
        let rows = Input::activation([n, c]);
        let (w, b) = (Input::weight([c]), Input::weight([c]));
        let affine = |w: &crate::tensor::Tensor, b: &crate::tensor::Tensor| {
            let (w, b) = (w.clone(), b.clone());
            Affine { w, b, eps: Self::EPS }
        };
        Case {
            op: "layer_norm",
            name: format!("{form:?} {n} x {c}, p {}", at.p),
            inputs: match form {
                Form::Plain => vec![rows, w, b],
                Form::Both | Form::Normed => vec![rows, rows, w, b],
            },
            forward: Box::new(move |tape, x| match form {
                Form::Plain => Ok(vec![layer_norm(tape, &x[0], &affine(&x[1], &x[2]))?]),
                Form::Both => {
                    let at = at.on(x[0].device())?;
                    let (s, y) = residual_layer_norm(tape, &x[0], &x[1], at, &affine(&x[2], &x[3]))?;
                    Ok(vec![s, y])
                }
                Form::Normed => {
                    let at = at.on(x[0].device())?;
                    Ok(vec![residual_layer_norm(tape, &x[0], &x[1], at, &affine(&x[2], &x[3]))?.1])
                }
            }),
            terms: 4 * n.max(c),
            // A row of one element is constant: dx is dy w / sqrt(eps) minus itself.
            cancelling: if c == 1 { 1.0 / f64::from(Self::EPS).sqrt() } else { 0.0 },
        }
    }
}

pub(super) fn all() -> Vec<Case> {
    let activations = Activation::all().into_iter().map(Activation::case);
    let dropouts = Dropout::all().into_iter().map(Dropout::case);
    activations.chain(dropouts).chain(LayerNorm::all().into_iter().map(LayerNorm::case)).collect()
}
