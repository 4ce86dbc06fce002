//! Which meter is read, as the environment says.

use super::{Meter, NoSensor, Recorder, Replay};
use crate::error::{Error, Result};
use std::env;
use std::path::PathBuf;

/// The environment variable that chooses.
pub const VARIABLE: &str = "WATTENTION_METER";

/// What `--help` says about it.
pub const HELP: &str = "\
Environment:
  WATTENTION_METER  Where energy is read: auto, what the device has (default); none;
                    record:FILE, auto and written to FILE; replay:FILE, such a recording";

/// Where energy is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// From the device's own sensor.
    Auto,
    /// Nowhere.
    Nothing,
    /// From the device's own sensor, and written to a file.
    Record(PathBuf),
    /// From a recording.
    Replay(PathBuf),
}

impl Choice {
    /// What `VARIABLE` says.
    pub fn read() -> Result<Self> {
        match env::var_os(VARIABLE) {
            None => Ok(Choice::Auto),
            Some(text) => Choice::parse(&text.to_string_lossy()),
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let file = |file: &str| Some(PathBuf::from(file)).filter(|_| !file.is_empty());
        let chosen = match text.split_once(':') {
            Some(("record", path)) => file(path).map(Choice::Record),
            Some(("replay", path)) => file(path).map(Choice::Replay),
            None if text == "auto" || text.is_empty() => Some(Choice::Auto),
            None if text == "none" => Some(Choice::Nothing),
            _ => None,
        };
        chosen.ok_or_else(|| {
            Error::usage(format!("{VARIABLE} is '{text}'; it can be auto, none, record:FILE or replay:FILE"))
        })
    }

    /// The meter, where `auto` is the device's own.
    pub fn open(&self, auto: impl FnOnce() -> Box<dyn Meter>) -> Result<Box<dyn Meter>> {
        Ok(match self {
            Choice::Auto => auto(),
            Choice::Nothing => Box::new(NoSensor::new(format!("{VARIABLE} is none"))),
            Choice::Record(file) => Box::new(Recorder::new(auto(), file)?),
            Choice::Replay(file) => Box::new(Replay::open(file)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::energy::Sample;
    use crate::units::{Joules, Seconds, Watts};

    #[test]
    fn a_choice_is_one_of_four() {
        assert_eq!(Choice::parse("auto").unwrap(), Choice::Auto);
        assert_eq!(Choice::parse("").unwrap(), Choice::Auto);
        assert_eq!(Choice::parse("none").unwrap(), Choice::Nothing);
        assert_eq!(Choice::parse("replay:a:b.jsonl").unwrap(), Choice::Replay("a:b.jsonl".into()));
        assert_eq!(Choice::parse("record:x").unwrap(), Choice::Record("x".into()));
        for wrong in ["replay", "replay:", "record:", "nvml", "None", "auto:x"] {
            let error = Choice::parse(wrong).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains("record:FILE"), "{error}");
        }
    }

    /// 40 W for ever, in steps.
    struct Steps(u32);

    impl Meter for Steps {
        fn name(&self) -> String {
            "steps".into()
        }

        fn read(&mut self) -> Result<Joules> {
            self.0 += 1;
            match self.0 {
                9 => Err(Error::Device("a hiccup".into())),
                n => Ok(Joules(f64::from(n))),
            }
        }

        fn update_period(&self) -> Seconds {
            Seconds(0.01)
        }

        fn sample(&mut self) -> Sample {
            Sample { power: Some(Watts(40.0)), throttled: true, ..Sample::default() }
        }
    }

    #[test]
    fn what_is_recorded_can_be_replayed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("steps.jsonl");
        let mut recording = Choice::Record(file.clone()).open(|| Box::new(Steps(0))).unwrap();
        let samples: Vec<Sample> = (0..10).map(|_| recording.sample()).collect();
        assert_eq!(recording.name(), "steps");
        let mut replay = Choice::Replay(file.clone()).open(|| panic!("not needed")).unwrap();
        assert!(replay.name().contains("a recording of steps"), "{}", replay.name());
        assert_eq!(replay.sample(), samples[0]);
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!((text.lines().count(), text.matches("a hiccup").count()), (11, 1));
        let nowhere = Choice::Record("/nowhere/x".into()).open(|| Box::new(Steps(0))).err().unwrap();
        assert_eq!(nowhere.exit_code(), 74);
    }
}
