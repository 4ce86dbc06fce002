//! Small dense systems: Cholesky, and least squares whose solution is nowhere negative.
//!
//! The active sets are those of Lawson and Hanson, "Solving Least Squares Problems" (1974), chapter 23, kept on the
//! normal equations as in Bro and de Jong, Journal of Chemometrics 11 (1997).

/// Added to a unit diagonal: columns that depend on each other get a solution, and a variance that shows it.
const RIDGE: f64 = 1e-12;

/// A square matrix by rows.
#[derive(Debug, Clone)]
pub(super) struct Matrix(Vec<Vec<f64>>);

impl Matrix {
    pub fn zeros(n: usize) -> Self {
        Matrix(vec![vec![0.0; n]; n])
    }

    pub fn from(n: usize, value: impl Fn(usize, usize) -> f64) -> Self {
        Matrix((0..n).map(|i| (0..n).map(|j| value(i, j)).collect()).collect())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn at(&self, i: usize, j: usize) -> f64 {
        self.0[i][j]
    }

    /// Zeros below and to the right, up to `n` rows.
    pub fn grow(&mut self, n: usize) {
        self.0.iter_mut().for_each(|row| row.resize(n, 0.0));
        self.0.resize(n, vec![0.0; n]);
    }

    /// Adds `a b^T`.
    pub fn add_outer(&mut self, a: &[f64], b: &[f64]) {
        for (row, a) in self.0.iter_mut().zip(a) {
            row.iter_mut().zip(b).for_each(|(sum, b)| *sum += a * b);
        }
    }

    /// `x^T M x`.
    pub fn quadratic(&self, x: &[f64]) -> f64 {
        self.apply(x).iter().zip(x).map(|(a, b)| a * b).sum()
    }

    /// `M x`.
    pub fn apply(&self, x: &[f64]) -> Vec<f64> {
        self.0.iter().map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum()).collect()
    }
}

/// The lower factor of a matrix with a unit diagonal, ridge included.
struct Cholesky(Vec<Vec<f64>>);

impl Cholesky {
    /// Factors the rows and columns `of` of `matrix`.
    fn new(matrix: &Matrix, of: &[usize]) -> Self {
        let mut lower: Vec<Vec<f64>> = Vec::with_capacity(of.len());
        for (i, &row) in of.iter().enumerate() {
            let mut next = Vec::with_capacity(i + 1);
            for (j, &column) in of[..=i].iter().enumerate() {
                let other = if i == j { &next } else { &lower[j] };
                let known: f64 = next.iter().zip(other).map(|(a, b)| a * b).sum();
                let left = matrix.at(row, column) - known;
                next.push(match i == j {
                    // Rounding alone can take more than the ridge from a dependent column.
                    true => (left + RIDGE).max(RIDGE).sqrt(),
                    false => left / lower[j][j],
                });
            }
            lower.push(next);
        }
        Cholesky(lower)
    }

    fn solve(&self, right: &[f64]) -> Vec<f64> {
        let n = self.0.len();
        let mut x = right.to_vec();
        for i in 0..n {
            let known: f64 = self.0[i][..i].iter().zip(&x).map(|(a, b)| a * b).sum();
            x[i] = (x[i] - known) / self.0[i][i];
        }
        for i in (0..n).rev() {
            let known: f64 = (i + 1..n).map(|j| self.0[j][i] * x[j]).sum();
            x[i] = (x[i] - known) / self.0[i][i];
        }
        x
    }
}

/// The inverse of a matrix with a unit diagonal.
pub(super) fn invert(matrix: &Matrix) -> Matrix {
    let n = matrix.len();
    let factor = Cholesky::new(matrix, &(0..n).collect::<Vec<_>>());
    let unit = |i: usize| (0..n).map(|j| f64::from(u8::from(i == j))).collect::<Vec<_>>();
    Matrix((0..n).map(|i| factor.solve(&unit(i))).collect())
}

/// The least `x^T M x - 2 b^T x` with `x >= 0`, for `matrix` M with a unit diagonal.
pub(super) fn non_negative(matrix: &Matrix, b: &[f64]) -> Vec<f64> {
    let n = matrix.len();
    let tolerance = 1e-12 * b.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
    let mut x = vec![0.0; n];
    let mut free: Vec<usize> = Vec::new();
    // Each round lowers the sum of squares, so no set comes twice; the limit is for rounding.
    for _ in 0..10 * n {
        let slope: Vec<f64> = matrix.apply(&x).iter().zip(b).map(|(mx, b)| b - mx).collect();
        let bound = (0..n).filter(|k| !free.contains(k));
        let Some(steepest) = bound.max_by(|&i, &j| slope[i].total_cmp(&slope[j])) else { break };
        if slope[steepest] <= tolerance {
            break;
        }
        free.push(steepest);
        while !free.is_empty() {
            let right: Vec<f64> = free.iter().map(|&k| b[k]).collect();
            let wanted = Cholesky::new(matrix, &free).solve(&right);
            let blocking = free.iter().zip(&wanted).filter(|(_, wanted)| **wanted <= 0.0);
            // How far towards the free solution all stay at 0 or above, and which gets there first.
            let way = |k: usize, wanted: f64| if x[k] > 0.0 { x[k] / (x[k] - wanted) } else { 0.0 };
            let first = blocking.map(|(&k, &wanted)| (way(k, wanted), k)).min_by(|a, b| a.0.total_cmp(&b.0));
            let Some((way, first)) = first else {
                free.iter().zip(&wanted).for_each(|(&k, &value)| x[k] = value);
                break;
            };
            free.iter().zip(&wanted).for_each(|(&k, wanted)| x[k] += way * (wanted - x[k]));
            x[first] = 0.0;
            free.retain(|&k| x[k] > 0.0);
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest value over all choices of which variables are 0, each solved by elimination.
    fn exhaustive(matrix: &Matrix, b: &[f64]) -> f64 {
        let n = b.len();
        let mut best = 0.0;
        for choice in 1u32..1 << n {
            let of: Vec<usize> = (0..n).filter(|k| choice >> k & 1 == 1).collect();
            let mut rows: Vec<Vec<f64>> =
                of.iter().map(|&i| of.iter().map(|&j| matrix.at(i, j)).chain([b[i]]).collect()).collect();
            for pivot in 0..of.len() {
                let lead = rows[pivot].clone();
                for (i, row) in rows.iter_mut().enumerate() {
                    let factor = if i == pivot { 0.0 } else { row[pivot] / lead[pivot] };
                    row.iter_mut().zip(&lead).for_each(|(value, lead)| *value -= factor * lead);
                }
            }
            let mut x = vec![0.0; n];
            of.iter().enumerate().for_each(|(i, &k)| x[k] = rows[i][of.len()] / rows[i][i]);
            if x.iter().all(|&value| value >= 0.0) {
                best = f64::min(best, objective(matrix, b, &x));
            }
        }
        best
    }

    fn objective(matrix: &Matrix, b: &[f64], x: &[f64]) -> f64 {
        matrix.quadratic(x) - 2.0 * b.iter().zip(x).map(|(b, x)| b * x).sum::<f64>()
    }

    #[test]
    fn no_choice_of_bounds_does_better() {
        let mut state = 7u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / 2f64.powi(31) - 0.5
        };
        let mut at_bounds = 0;
        for n in 1..6 {
            for _ in 0..60 {
                let columns: Vec<Vec<f64>> = (0..n).map(|_| (0..n + 2).map(|_| random()).collect()).collect();
                let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
                let length: Vec<f64> = columns.iter().map(|c| dot(c, c).sqrt()).collect();
                let matrix = Matrix::from(n, |i, j| dot(&columns[i], &columns[j]) / (length[i] * length[j]));
                let b: Vec<f64> = (0..n).map(|_| random()).collect();
                let x = non_negative(&matrix, &b);
                assert!(x.iter().all(|&value| value >= 0.0), "{x:?}");
                at_bounds += x.iter().filter(|&&value| value == 0.0).count();
                let (got, best) = (objective(&matrix, &b, &x), exhaustive(&matrix, &b));
                assert!((got - best).abs() <= 1e-7 * (1.0 + best.abs()), "{got} instead of {best}");
            }
        }
        assert!(at_bounds > 100, "only {at_bounds} variables were at their bound");
    }

    #[test]
    fn an_inverse_undoes_its_matrix_and_a_singular_one_is_finite() {
        let matrix = Matrix(vec![vec![1.0, 0.3, 0.1], vec![0.3, 1.0, -0.4], vec![0.1, -0.4, 1.0]]);
        let inverse = invert(&matrix);
        for i in 0..3 {
            let product = matrix.apply(&inverse.0[i]);
            for (j, value) in product.iter().enumerate() {
                let unit = if i == j { 1.0 } else { 0.0 };
                assert!((value - unit).abs() < 1e-9, "{product:?}");
            }
        }
        let twice = Matrix(vec![vec![1.0, 1.0], vec![1.0, 1.0]]);
        assert!(invert(&twice).at(0, 0) > 1e10 && invert(&twice).at(0, 0).is_finite());
        let x = non_negative(&twice, &[1.0, 1.0]);
        assert!((x[0] + x[1] - 1.0).abs() < 1e-6, "{x:?}");
    }
}
