//! `profile step` and `profile generate`: work over a synthetic batch, measured here or predicted for a GPU that is not.

use super::super::choices;
use super::super::global::Global;
use super::super::ranks;
use super::super::workload::{self, Kind, Subject};
use super::measuring::{Measuring, described};
use super::predicted::{self, Prediction};
use crate::collective::Group;
use crate::error::{Error, Result};
use crate::hub::Name;
use crate::models;
use crate::workload::{Sizes, Workload};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::rc::Rc;

#[derive(clap::Args, Debug)]
pub struct Args<K: Kind> {
    #[arg(long, value_name = "DIR_OR_NAME", required_unless_present = "config", help = choices::models())]
    model: Option<Name>,

    /// A config.json alone: weights are drawn at random
    #[arg(long, value_name = "FILE", conflicts_with = "model")]
    config: Option<PathBuf>,

    #[command(flatten)]
    kind: K,

    #[command(flatten)]
    prediction: Prediction,

    #[command(flatten)]
    measuring: Measuring,
}

impl<K: Kind> Args<K> {
    fn subject(&self) -> Result<Subject> {
        match (&self.model, &self.config) {
            (Some(name), _) => Ok(Subject::Model(name.clone())),
            (None, Some(file)) => Ok(Subject::Config(file.clone())),
            (None, None) => Err(Error::usage("give --model DIR or --config FILE")),
        }
    }

    /// What the profile is of.
    fn own(&self, subject: &Subject, sizes: K::Sizes) -> Value {
        let mut own = Map::from_iter([
            ("what".to_string(), json!(K::Sizes::NAME)),
            ("model".to_string(), json!(subject.name())),
        ]);
        for part in [json!(sizes), self.kind.settings()] {
            own.extend(part.as_object().cloned().unwrap_or_default());
        }
        Value::Object(own)
    }
}

pub fn run<K: Kind>(args: Args<K>, global: &Global) -> anyhow::Result<()> {
    args.kind.check()?;
    if args.prediction.is_asked() {
        args.kind.refuse_ranks(true, "--plan-only runs nothing")?;
    }
    ranks::run(args.kind.ranks(), global, |global, group| profile(&args, global, &group))
}

fn profile<K: Kind>(args: &Args<K>, global: &Global, group: &Rc<Group>) -> anyhow::Result<()> {
    let (subject, sizes) = (args.subject()?, workload::only(&args.kind)?);
    let (own, options) = (args.own(&subject, sizes), sizes.options(args.kind.options()));
    if let Some(gpu) = args.prediction.limits(&args.measuring, options.weights)? {
        let config = subject.config()?;
        workload::check(&sizes, &models::limits(&config)?)?;
        let steps = sizes.dry_run(&config, global.precision, options)?.plan()?;
        return predicted::print(&steps, gpu, own, &args.measuring, global);
    }
    let stand = args.measuring.open(global, group)?;
    group.agree_on_work(&format!("{own} {:?}", args.measuring), stand.device.uuid().as_deref())?;
    let loaded = subject.load(&stand.device, options, global)?;
    workload::check(&sizes, &loaded.model.limits())?;
    // Each rank has examples of its own.
    let mut work = sizes.load(loaded, options, global.seed + group.rank() as u64, group)?;
    let described = described(own, &stand.device.name(), global.precision);
    args.measuring.profile(&mut work, &stand, described, global, group)
}
