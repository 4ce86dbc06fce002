//! What a run tells who watches it, and what it asks them: events, scores, requests to stop, and its summary.

use super::state::Times;
use super::step::StepReport;
use crate::energy::Activity;
use crate::error::Result;
use crate::models::session::Session;
use crate::units::Seconds;

/// What happens during a run, in order.
#[derive(Debug, Clone)]
pub enum Event {
    Step {
        /// Steps done, this one included.
        step: u64,
        total: u64,
        report: StepReport,
        /// Examples of this step, and their tokens, padding not counted.
        samples: u64,
        tokens: u64,
    },
    /// A step that changed no weight.
    Skipped {
        step: u64,
        why: String,
        loss: f32,
        /// Absent where the loss was reason enough.
        grad_norm: Option<f32>,
        /// Ids in the dataset.
        examples: Vec<String>,
    },
    Evaluation {
        step: u64,
        eval_loss: f64,
        /// Scores of predictions, where they were made.
        scores: Scores,
    },
    /// The state after `step` is being saved.
    Checkpoint { step: u64 },
}

/// Metrics by the names that HF gives them, without `eval_`.
pub type Scores = Vec<(&'static str, f64)>;

/// Whoever watches a run.
pub trait Observer {
    fn event(&mut self, event: &Event) -> Result<()>;

    /// All ranks are here at once, and about to save.
    fn meets(&mut self) -> Result<()> {
        Ok(())
    }

    /// What the run does from now on.
    fn enters(&mut self, _: Activity) {}

    /// The signal that asks the run to stop, if one has come.
    fn interrupted(&self) -> Option<i32> {
        None
    }
}

impl Observer for () {
    fn event(&mut self, _: &Event) -> Result<()> {
        Ok(())
    }
}

/// Makes and scores predictions at every evaluation.
pub trait Scorer<X> {
    /// The metrics that [`Scorer::scores`] gives.
    fn names(&self) -> &'static [&'static str];

    fn scores(&mut self, session: &mut Session<X>) -> Result<Scores>;
}

/// What a run came to, over all processes that worked on it.
#[derive(Debug, Clone, Copy)]
pub struct Summary {
    /// Steps done, fewer than planned after early stopping.
    pub steps: u64,
    /// Steps among them that changed no weight.
    pub skipped: u64,
    /// Examples trained on, counted as often as they were.
    pub samples: u64,
    /// Source and target tokens trained on, padding not counted.
    pub tokens: u64,
    pub last_loss: f32,
    /// Mean over all updates (HF `train_loss`).
    pub train_loss: f64,
    /// Mean over the run's last tenth of updates, which one batch does not sway.
    pub final_loss: f64,
    /// Validation loss of the weights that the run ends with.
    pub eval_loss: Option<f64>,
    /// The step whose evaluation was the best, and its metric.
    pub best: Option<(u64, f64)>,
    /// The step whose weights the run ends with.
    pub weights_of: u64,
    /// Training alone, with its waits for data.
    pub train_time: Seconds,
    /// Evaluation in between.
    pub eval_time: Seconds,
    pub times: Times,
}
