//! What is known of a metric: its name in files, its title, how its numbers are written, which direction is better and
//! where it is shown.

use super::Cell;
use crate::reading::Reading;
use crate::table::Column;
use crate::units::{Format, Unit};

/// The table among the report's "All numbers" that has a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theme {
    Accuracy,
    /// Precision, recall and length of the predictions.
    Agreement,
    Time,
    Memory,
    Energy,
    Activities,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    Higher,
    Lower,
}

/// How the report's summary names the cell that is best by a metric.
#[derive(Debug, Clone, Copy)]
pub struct Pick {
    /// What makes it the extreme among several cells.
    pub extreme: &'static str,
    /// None: the metric that the dataset is judged by.
    pub what: Option<&'static str>,
    /// Unit of a format that has none of its own.
    pub unit: &'static str,
}

/// One number of every cell.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// In results.csv and in the figures' files.
    pub key: &'static str,
    /// In tables, on axes and in prose; the unit of the column follows where the format names one.
    pub title: &'static str,
    pub format: Format,
    pub better: Option<Better>,
    pub theme: Option<Theme>,
    /// Whether the table that a study prints has it.
    pub in_summary: bool,
    pub pick: Option<Pick>,
    /// Whether it is measured or predicted itself, and does not follow from others.
    pub is_stored: bool,
    pub of: fn(&Cell) -> Reading,
}

impl Metric {
    pub(super) const fn new(
        key: &'static str,
        title: &'static str,
        format: Format,
        of: fn(&Cell) -> Reading,
    ) -> Self {
        let (better, theme, in_summary, pick) = (None, None, false, None);
        Metric { key, title, format, better, theme, in_summary, pick, is_stored: true, of }
    }

    pub(super) const fn higher(self) -> Self {
        Metric { better: Some(Better::Higher), ..self }
    }

    pub(super) const fn lower(self) -> Self {
        Metric { better: Some(Better::Lower), ..self }
    }

    pub(super) const fn under(self, theme: Theme) -> Self {
        Metric { theme: Some(theme), ..self }
    }

    pub(super) const fn in_summary(self) -> Self {
        Metric { in_summary: true, ..self }
    }

    pub(super) const fn picked(
        self,
        extreme: &'static str,
        what: Option<&'static str>,
        unit: &'static str,
    ) -> Self {
        Metric { pick: Some(Pick { extreme, what, unit }), ..self }
    }

    pub(super) const fn derived(self) -> Self {
        Metric { is_stored: false, ..self }
    }

    pub fn column<'a>(&self) -> Column<'a, Cell> {
        Column::number(self.title, self.format, self.of).key(self.key)
    }

    /// The unit in which the largest of its values among `cells` reads well, where it has units.
    pub fn unit<'a>(&self, cells: impl IntoIterator<Item = &'a Cell>) -> Option<Unit> {
        let values = cells.into_iter().filter_map(|cell| (self.of)(cell).value());
        self.format.unit(values.fold(0.0, f64::max))
    }

    /// The title of an axis or a column in `unit`.
    pub fn titled(&self, unit: Option<Unit>) -> String {
        unit.map_or(self.title.into(), |unit| format!("{} ({})", self.title, unit.name))
    }
}
