//! Predictions of the validation split by the model that a run has trained, and their scores.

use super::observer::Observer;
use super::predictions::write_predictions;
use super::report::Evaluated;
use super::splits::Part;
use super::{Run, Started};
use crate::energy::{Activity, Measurement, Window};
use crate::error::{Error, Result};
use crate::evaluate::{Evaluation, Task, evaluate_among};
use crate::generate;
use crate::metrics::{Protocol, score};
use crate::models::session::Session;
use crate::models::{self, ModelOptions};
use crate::nn::Weights;

/// Predictions with their scores.
pub struct Scored {
    pub evaluation: Evaluation,
    pub energy: Measurement,
}

impl Run<'_> {
    /// Predicts and scores the validation split under the run's own protocol: writes `predictions.jsonl`, and the
    /// last line of `metrics.jsonl`, which also has the loss after `steps`.
    pub fn predict(
        &mut self,
        eval_loss: Option<f64>,
        steps: u64,
        observer: &mut dyn Observer,
    ) -> Result<(Evaluated, Scored)> {
        let Some(part) = self.validation.take() else {
            return Err(Error::internal("there is nothing to predict"));
        };
        let scored = self.score(&part, self.settings.protocol, Weights::Stored, observer);
        let written = scored.and_then(|scored| {
            write_predictions(&self.dir.predictions(), &part.examples, &scored.evaluation.predictions, None)?;
            let Some(Started { log, .. }) = &mut self.started else {
                return Err(Error::internal("a run predicts when it has trained"));
            };
            let evaluated = Evaluated::new(&scored.evaluation, eval_loss, steps, log.epoch(steps));
            log.write(&evaluated)?;
            let answers = part.examples.iter().zip(&scored.evaluation.predictions);
            let each =
                answers.map(|(example, said)| score(self.settings.protocol, said, &example.references));
            self.results.each = each.collect::<Result<_>>()?;
            self.results.evaluated = Some(evaluated.clone());
            Ok((evaluated, scored))
        });
        self.validation = Some(part);
        written
    }

    /// The validation split as `protocol` groups it.
    pub fn validation_under(&mut self, protocol: Protocol, observer: &mut dyn Observer) -> Result<Part> {
        self.books.enter(Activity::Data);
        let part = self.splits.validation_under(protocol, observer);
        self.books.enter(Activity::Rest);
        part
    }

    /// Predicts and scores `part` under `protocol` by the trained model, its weights kept so; writes nothing.
    pub fn score(
        &mut self,
        part: &Part,
        protocol: Protocol,
        weights: Weights,
        observer: &mut dyn Observer,
    ) -> Result<Scored> {
        if weights == Weights::Int8 && self.rounded.is_none() {
            self.rounded = Some(self.round()?);
        }
        self.books.enter(Activity::Evaluation);
        let window = Window::start(self.means.sampler);
        let task: Task = self.splits.task(part, protocol, &self.settings.decoding, &self.settings.training);
        let total = part.examples.len();
        let group = self.means.group.clone();
        let mut progress = |said: &[String]| {
            observer.scored(protocol, said.len(), total);
            group.asked(observer.interrupted()).map_or(Ok(()), |signal| Err(Error::Interrupted(signal)))
        };
        let evaluation = match self.rounded.as_mut().filter(|_| weights == Weights::Int8) {
            Some(rounded) => evaluate_among(rounded, task, &group, &mut progress),
            None => evaluate_among(&mut self.session, task, &group, &mut progress),
        };
        self.books.enter(Activity::Rest);
        Ok(Scored { evaluation: evaluation?, energy: window.stop() })
    }

    /// The model that the run has saved, with its weights in 8 bits.
    fn round(&self) -> Result<Session<generate::State>> {
        let options = ModelOptions { weights: Weights::Int8, ..self.settings.model_options() };
        let loaded = models::load(&self.dir.model(), self.means.device, options)?;
        Session::new(loaded, options, generate::state)
    }
}
