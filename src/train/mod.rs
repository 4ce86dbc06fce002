//! Fine-tuning: batches from text, the training step, the schedule, the run.

pub mod batches;
mod fit;
mod options;
mod peak;
mod run;
mod schedule;
mod step;
pub mod synthetic;

pub use batches::{Corpus, Encoded, GlobalAttention, Lengths};
pub use fit::{Fit, Parts, Planned, largest_batch};
pub use options::{Optimizer, Options, Schedule};
pub use peak::plan_run;
pub use run::{Event, Observer, Summary, evaluate_loss, fine_tune};
pub use step::{
    StepReport, TrainState, forget_gradients, loss_step, micro_step, optimizer_step, train_state,
};

#[cfg(test)]
mod tests;
