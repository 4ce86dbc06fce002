//! The energy of a command that predicts: the meter that it opens, and what it reports at its end.

use super::global::Global;
use crate::collective::Group;
use crate::device::Device;
use crate::energy::{
    self, Activity, DeviceEnergy, Efficiency, Ledger, PaperEfficiency, RunEnergy, Sampler, Work, of_devices,
};
use crate::error::Result;
use crate::units::Seconds;
use serde::Serialize;

/// The meter of `device`, unless the environment chooses another one.
pub fn open(device: &Device) -> Result<Sampler> {
    Sampler::start(energy::choose(device)?)
}

/// The meter of a command that predicts, and its books.
pub struct Predicting {
    ledger: Ledger,
    activity: Activity,
    /// Kept for the ledger's samples.
    _sampler: Sampler,
}

/// What `--json` says about energy.
#[derive(Serialize)]
pub struct Report {
    /// Of the devices of all ranks together.
    #[serde(flatten)]
    run: RunEnergy,
    /// What each device took; none of one process.
    #[serde(skip)]
    pub devices: Vec<DeviceEnergy>,
    /// The predictions; of the tokens, the source's.
    predicted: Efficiency,
    paper: Option<PaperEfficiency>,
    #[serde(skip)]
    activity: Activity,
}

impl Predicting {
    /// Starts the books of a command that predicts in `activity`.
    pub fn start(device: &Device, activity: Activity) -> Result<Self> {
        let sampler = open(device)?;
        Ok(Predicting { ledger: Ledger::start(&sampler), activity, _sampler: sampler })
    }

    pub fn reads(&mut self) {
        self.ledger.enter(Activity::Data);
    }

    pub fn predicts(&mut self) {
        self.ledger.enter(self.activity);
    }

    pub fn rests(&mut self) {
        self.ledger.enter(Activity::Rest);
    }

    /// What `work` of all ranks, done in `runtime`, cost; all of it was done when every rank calls this.
    pub fn report(mut self, work: Work, runtime: Seconds, device: &Device, group: &Group) -> Result<Report> {
        self.rests();
        let (run, devices) = of_devices(self.ledger.so_far(), device, group)?;
        let predicted = run.efficiency(self.activity, work);
        let paper = run.paper(work.samples, runtime);
        Ok(Report { run, devices, predicted, paper, activity: self.activity })
    }
}

impl Report {
    /// One line, and one more in the paper's terms where it could be computed.
    pub fn text(&self) -> String {
        let line = self.run.line(self.activity, &self.predicted, "source token");
        match &self.paper {
            Some(paper) if self.run.whole.energy.is_some() => line + "\n" + &paper.text(),
            _ => line,
        }
    }

    /// On stderr, where stdout has the predictions themselves.
    pub fn note(&self, global: &Global) {
        global.note(self.text());
    }
}
