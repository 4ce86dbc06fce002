//! Normal equations of filtered intervals.

use super::least_squares::{Matrix, invert, non_negative};

/// Sums over the intervals `x_i + m x_(i-1) + m^2 x_(i-2) + ...`, which make `noise_i - m noise_(i-1)` white.
#[derive(Debug, Clone)]
pub(super) struct Filter {
    memory: f64,
    /// The last filtered interval: times, and energy.
    row: Vec<f64>,
    energy: f64,
    moment: Vec<f64>,
    gram: Matrix,
    squares: f64,
}

/// The solution of one filter.
pub(super) struct Solved {
    /// Variance of what is left unexplained.
    pub variance: f64,
    /// Powers of the columns asked for.
    pub powers: Vec<Power>,
}

pub(super) struct Power {
    pub watts: f64,
    /// One standard deviation.
    pub deviation: f64,
    /// How much larger its variance is than if no other phase had been there.
    pub inflation: f64,
}

impl Filter {
    pub fn new(columns: usize, memory: f64) -> Self {
        Filter {
            memory,
            row: vec![0.0; columns],
            energy: 0.0,
            moment: vec![0.0; columns],
            gram: Matrix::zeros(columns),
            squares: 0.0,
        }
    }

    pub fn grow(&mut self, columns: usize) {
        self.row.resize(columns, 0.0);
        self.moment.resize(columns, 0.0);
        self.gram.grow(columns);
    }

    pub fn cut(&mut self) {
        self.row.fill(0.0);
        self.energy = 0.0;
    }

    pub fn add(&mut self, row: &[f64], energy: f64) {
        self.energy = energy + self.memory * self.energy;
        self.squares += self.energy * self.energy;
        for ((kept, new), moment) in self.row.iter_mut().zip(row).zip(&mut self.moment) {
            *kept = new + self.memory * *kept;
            *moment += *kept * self.energy;
        }
        self.gram.add_outer(&self.row, &self.row);
    }

    /// The power of a column that alone would have to explain all of its intervals: with others it is less.
    pub fn alone(&self, column: usize) -> f64 {
        self.moment[column] / self.gram.at(column, column)
    }

    /// The powers of the columns `of`, with so many `freedom` intervals more than these.
    pub fn solve(&self, of: &[usize], freedom: f64) -> Solved {
        // Columns of unit length, so that a short phase is as well conditioned as a long one.
        let length: Vec<f64> = of.iter().map(|&k| self.gram.at(k, k).sqrt()).collect();
        let gram = Matrix::from(of.len(), |i, j| self.gram.at(of[i], of[j]) / (length[i] * length[j]));
        let moment: Vec<f64> = of.iter().zip(&length).map(|(&k, length)| self.moment[k] / length).collect();
        let (solution, inverse) = (non_negative(&gram, &moment), invert(&gram));
        let explained: f64 = solution.iter().zip(&moment).map(|(x, moment)| x * moment).sum();
        let left = self.squares - 2.0 * explained + gram.quadratic(&solution);
        let variance = left.max(0.0) / freedom;
        let power = |i: usize| Power {
            watts: solution[i] / length[i],
            deviation: (variance * inverse.at(i, i)).sqrt() / length[i],
            inflation: inverse.at(i, i),
        };
        Solved { variance, powers: (0..of.len()).map(power).collect() }
    }
}
