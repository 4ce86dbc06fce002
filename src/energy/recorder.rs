//! A meter that writes down what it says, for [`super::Replay`].

use super::calibration::Calibration;
use super::replay::Line;
use super::{Meter, Sample};
use crate::error::{Error, Result};
use crate::units::{Joules, Seconds};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

/// Passes a meter on, and appends every sample of it to a file.
pub struct Recorder {
    meter: Box<dyn Meter>,
    start: Instant,
    /// A recording that fails does not end the measurement; the name says so.
    file: io::Result<File>,
}

impl Recorder {
    /// Begins a recording of `meter` in `file`, which it replaces.
    pub fn new(meter: Box<dyn Meter>, file: &Path) -> Result<Self> {
        let opened = File::create(file).map_err(|e| Error::output(file, e))?;
        let mut recorder = Recorder { start: Instant::now(), file: Ok(opened), meter };
        let source = recorder.meter.name();
        recorder.write(&Line { source: Some(source), ..Line::default() });
        Ok(recorder)
    }

    fn write(&mut self, line: &Line) {
        let Ok(file) = &mut self.file else { return };
        // One unbuffered write: what a killed process leaves ends with a whole line.
        let text = serde_json::to_string(line).map_err(io::Error::from);
        if let Err(why) = text.and_then(|text| file.write_all((text + "\n").as_bytes())) {
            self.file = Err(why);
        }
    }
}

impl Meter for Recorder {
    fn name(&self) -> String {
        let name = self.meter.name();
        match &self.file {
            Ok(_) => name,
            Err(why) => format!("{name}; its recording ended early: {why}"),
        }
    }

    fn read(&mut self) -> Result<Joules> {
        self.meter.read()
    }

    fn update_period(&self) -> Seconds {
        self.meter.update_period()
    }

    fn calibration(&self) -> Calibration {
        self.meter.calibration()
    }

    fn sample(&mut self) -> Sample {
        let (read, sample) = (self.meter.read(), self.meter.sample());
        let time = Some(Seconds::from(self.start.elapsed()));
        let (energy, error) = match read {
            Ok(energy) => (Some(energy), None),
            Err(why) => (None, Some(why.to_string())),
        };
        self.write(&Line { time, energy, error, source: None, sample });
        sample
    }
}
