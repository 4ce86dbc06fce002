//! Fine-tuning: batches from text, the training step, the schedule, training and its checkpoints.

mod batch_size;
pub mod batches;
mod checked_step;
pub mod checkpoint;
mod control;
mod diagnosis;
mod events;
mod following;
mod global_attention;
mod largest_batch;
mod loader;
mod loss;
mod memory;
mod options;
mod outliers;
mod overlap;
mod ranks;
mod schedule;
mod shard;
mod state;
mod step;
mod stopping;
mod sums;
pub mod synthetic;
pub mod token_cache;
mod tokens;
mod trainer;

pub use batch_size::BatchSize;
pub use batches::{Corpus, Cut, Encoded, Lengths};
pub use control::Control;
pub use events::{Event, Observer, Scorer, Scores, Summary};
pub use global_attention::{GlobalAttention, GlobalTokens};
pub use largest_batch::{Fit, Planned, largest_batch};
pub use loss::{evaluate_loss, evaluate_loss_among};
pub use memory::{Parts, plan_run};
pub use options::{Optimizer, Options, Schedule};
pub use ranks::agree_on_weights;
pub use shard::{RankLayout, Shard, Sharing};
pub use state::{Cursor, Times, TrainerState};
pub use step::{
    StepReport, TrainState, forget_gradients, loss_step, micro_step, optimizer_step, ranked_train_state,
    train_state,
};
pub use tokens::Tokens;
pub use trainer::{Trainer, fine_tune};

#[cfg(test)]
mod tests;
