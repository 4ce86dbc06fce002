//! How cells are told apart: by the settings that differ within the study, and no others.

use super::Cell;

/// Which settings differ between the cells of a study.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Varying {
    pub precision: bool,
    pub protocol: bool,
    pub weights: bool,
    /// The kind of GPU, or the processor.
    pub device: bool,
    pub seed: bool,
    pub batch_size: bool,
}

impl Varying {
    pub fn of(cells: &[Cell]) -> Self {
        fn differs<T: PartialEq>(cells: &[Cell], of: impl Fn(&Cell) -> T) -> bool {
            cells.windows(2).any(|pair| of(&pair[0]) != of(&pair[1]))
        }
        Varying {
            precision: differs(cells, |c| c.precision.clone()),
            protocol: differs(cells, |c| c.protocol.clone()),
            weights: differs(cells, |c| c.weights),
            device: differs(cells, Cell::machine),
            seed: differs(cells, |c| c.seed),
            batch_size: differs(cells, |c| c.batch_size),
        }
    }

    /// What one line of a plot stands for: a model and how it was run. Seeds share a line.
    pub fn series(&self, cell: &Cell) -> String {
        let parts = [
            Some(cell.model.clone()),
            self.precision.then(|| cell.precision.clone()),
            self.weights.then(|| format!("{} weights", cell.weights.name())),
            self.device.then(|| cell.machine()),
        ];
        join(parts)
    }

    /// What one panel of a plot stands for: the task whose scores compare.
    pub fn task(&self, cell: &Cell) -> String {
        join([Some(cell.dataset.clone()), self.protocol.then(|| format!("{} protocol", cell.protocol))])
    }

    /// A row's name besides its dataset and length.
    pub fn row(&self, cell: &Cell) -> String {
        join([
            Some(self.series(cell)),
            self.protocol.then(|| cell.protocol.clone()),
            self.seed.then(|| format!("seed {}", cell.seed)),
        ])
    }
}

fn join<const N: usize>(parts: [Option<String>; N]) -> String {
    parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
}
