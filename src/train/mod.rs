//! Fine-tuning: batches from text, the training step, the schedule, the run and its checkpoints.

mod attempt;
pub mod batches;
pub mod checkpoint;
mod control;
mod diagnosis;
mod feed;
mod options;
mod peak;
mod run;
mod schedule;
mod spikes;
mod state;
mod step;
mod stopping;
pub mod synthetic;
mod trainer;

pub use batches::{Corpus, Encoded, GlobalAttention, Lengths};
pub use control::Control;
pub use options::{Options, Schedule};
pub use peak::plan_run;
pub use run::{Event, Observer, Scorer, Scores, Summary, evaluate_loss, fine_tune};
pub use state::{Cursor, Times, TrainerState};
pub use step::{
    StepReport, TrainState, forget_gradients, loss_step, micro_step, optimizer_step, train_state,
};
pub use trainer::Trainer;

#[cfg(test)]
mod tests;
