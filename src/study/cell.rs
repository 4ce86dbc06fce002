//! One cell of a study in its run directory: fine-tune, evaluate, measure; what is done there is not done again.

mod batch;
mod log;
mod phases;
mod scored;
mod trained;
mod window;

use super::grid::CellPlan;
use super::published::Places;
use super::results::{Activities, Cell, Metric};
use crate::data::{Dataset, Example, Split};
use crate::device::Device;
use crate::energy::{Activity, Books, Sampler};
use crate::error::{Error, Result};
use crate::evaluate::{Task, work};
use crate::files;
use crate::generate::GenerateOptions;
use crate::metrics::{Headline, Protocol};
use crate::models::session::Session;
use crate::models::{self, Limits, Options};
use crate::text::Tokenizer;
use crate::train::batches::Lengths;
use crate::train::token_cache::TokenCache;
use crate::train::{self, Corpus, Observer, checkpoint};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

pub use scored::example_scores;
pub use window::config_with_window;

/// What a cell's run tells whoever watches, besides training events.
pub trait CellObserver: Observer {
    /// Examples scored so far under a protocol.
    fn evaluated(&mut self, protocol: Protocol, done: usize, total: usize);
}

/// A cell and all that its run needs.
pub struct Run<'a> {
    pub plan: &'a CellPlan,
    pub device: &'a Device,
    pub sampler: &'a Sampler,
    pub places: &'a Places,
    /// The cell's run directory, which nobody else writes to.
    pub dir: &'a Path,
    /// Embedded models are unpacked, and token ids kept, under this folder.
    pub beside: &'a Path,
}

/// `cell.json`: a cell that is done.
#[derive(Serialize, Deserialize)]
struct Finished {
    plan: CellPlan,
    /// One a protocol.
    cells: Vec<Cell>,
}

/// The results in `dir` if a cell of exactly this plan was finished there.
pub fn finished(dir: &Path, plan: &CellPlan) -> Option<Vec<Cell>> {
    let text = fs::read_to_string(dir.join("cell.json")).ok()?;
    let finished: Finished = serde_json::from_str(&text).ok()?;
    (finished.plan == *plan).then_some(finished.cells)
}

/// Forgets what is in `dir`, so that the cell runs from its beginning.
pub fn forget(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::output(dir, e)),
        _ => Ok(()),
    }
}

/// A split in text and in tokens.
struct Part {
    examples: Vec<Example>,
    corpus: Corpus,
}

/// What a cell reads, before any weight.
struct Material<'a> {
    run: &'a Run<'a>,
    /// The model's directory.
    model: std::path::PathBuf,
    options: Options,
    limits: Limits,
    tokenizer: Tokenizer,
    dataset: Dataset,
    cache: TokenCache,
}

impl Run<'_> {
    /// Runs the cell to its end, from wherever an earlier process left it; one result a protocol.
    pub fn run(&self, observer: &mut dyn CellObserver) -> Result<Vec<Cell>> {
        files::create_dir(self.dir)?;
        files::remove_leftovers(self.dir)?;
        let mut books = Books::start(self.sampler, self.dir);
        let material = Material::read(self)?;
        let first = self.plan.protocols[0];
        books.enter(Activity::Data);
        // Every reference is an example to learn from, whatever the protocol groups for scoring.
        let train = material.part(Split::Train, Protocol::Paper, self.plan.max_train_samples)?;
        let validation = material.part(Split::Validation, first, self.plan.max_eval_samples)?;
        books.enter(Activity::Rest);
        let plan = batch::choose(&material, &train, &validation)?;
        let loaded = models::load(&material.model, self.device, material.options)?;
        let mut session = Session::new(loaded, material.options, work)?;
        let parts = [&train, &validation];
        let trained = trained::train(&material, &plan, &mut session, parts, &mut books, observer)?;
        let mut cells = Vec::new();
        for &protocol in &self.plan.protocols {
            let other;
            let part = match protocol == first {
                true => &validation,
                false => {
                    books.enter(Activity::Data);
                    other = material.part(Split::Validation, protocol, self.plan.max_eval_samples)?;
                    &other
                }
            };
            books.enter(Activity::Evaluation);
            cells.push(scored::score(&material, &plan, &mut session, part, protocol, &trained, observer)?);
        }
        books.enter(Activity::Rest);
        let spent = books.so_far();
        books.write(&spent)?;
        cells.iter_mut().for_each(|cell| cell.activities = Activities::of(&spent));
        let finished = Finished { plan: self.plan.clone(), cells };
        let path = self.dir.join("cell.json");
        let text = serde_json::to_string_pretty(&finished).map_err(|e| Error::output(&path, e))?;
        files::write_text(&path, &(text + "\n"))?;
        checkpoint::remove_all(self.dir)?;
        if !self.plan.keep_model {
            forget(&self.dir.join(trained::MODEL))?;
        }
        Ok(finished.cells)
    }
}

impl<'a> Material<'a> {
    fn read(run: &'a Run<'a>) -> Result<Self> {
        let plan = run.plan;
        let unpacked = run.beside.join("models");
        let mut model = run.places.model(&plan.model, &unpacked)?;
        if let Some(window) = plan.attention_window {
            model = window::with_window(&model, window, &unpacked)?;
        }
        let options = Options { random_blocks: plan.random_blocks, ..Options::default() };
        let limits = models::limits(&model.join("config.json"))?;
        let tokenizer = Tokenizer::load(&model)?;
        let dataset = run.places.dataset(&plan.dataset)?;
        let cache = TokenCache::new(&run.beside.join("tokens"));
        Ok(Material { run, model, options, limits, tokenizer, dataset, cache })
    }

    /// The first `most` examples of a split, or all of it if that is 0.
    fn part(&self, split: Split, protocol: Protocol, most: usize) -> Result<Part> {
        let plan = self.run.plan;
        let mut examples = self.dataset.examples(split, protocol)?;
        if most > 0 {
            examples.truncate(most);
        }
        if examples.is_empty() {
            return Err(Error::data(&plan.dataset, format!("its {} split has no examples", split.name())));
        }
        let lengths = Lengths { source: plan.train.max_source_length, target: plan.train.max_target_length };
        // A cache that cannot be written costs time alone.
        let (corpus, _) = Corpus::encode_cached(
            &self.tokenizer,
            &examples,
            lengths,
            self.limits,
            plan.global_attention,
            &self.cache,
        )?;
        Ok(Part { examples, corpus })
    }

    fn decoding(&self) -> GenerateOptions {
        GenerateOptions { max_new_tokens: self.run.plan.max_new_tokens, ..GenerateOptions::new(&self.limits) }
    }

    /// What is asked of the model about `part`.
    fn task<'b>(
        &'b self,
        part: &'b Part,
        protocol: Protocol,
        decoding: &'b GenerateOptions,
        options: &train::Options,
    ) -> Task<'b> {
        Task {
            tokenizer: &self.tokenizer,
            corpus: &part.corpus,
            examples: &part.examples,
            protocol,
            decoding,
            batch_size: options.per_device_eval_batch_size,
            known: Vec::new(),
        }
    }

    /// The metric that the dataset is judged by.
    fn metric(&self) -> Metric {
        match self.dataset.headline {
            Headline::GeometricMean => Metric::GeometricMean,
            Headline::F1 => Metric::F1,
        }
    }
}
