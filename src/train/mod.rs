//! Fine-tuning: batches from text, the training step, the schedule, the run and its checkpoints.

mod attempt;
pub mod batches;
pub mod checkpoint;
mod control;
mod diagnosis;
mod feed;
mod fit;
mod options;
mod peak;
mod run;
mod schedule;
mod spikes;
mod state;
mod step;
mod stopping;
pub mod synthetic;
pub mod token_cache;
mod tokens;
mod trainer;

pub use batches::{Corpus, Encoded, GlobalAttention, Lengths};
pub use control::Control;
pub use fit::{Fit, Parts, Planned, largest_batch};
pub use options::{Optimizer, Options, Schedule};
pub use peak::plan_run;
pub use run::{Event, Observer, Scorer, Scores, Summary, evaluate_loss, fine_tune};
pub use state::{Cursor, Times, TrainerState};
pub use step::{
    StepReport, TrainState, forget_gradients, loss_step, micro_step, optimizer_step, train_state,
};
pub use tokens::Tokens;
pub use trainer::Trainer;

#[cfg(test)]
mod tests;
