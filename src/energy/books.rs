//! `energy.json`: the ledger of a run directory, over all processes that worked on the run.

use super::ledger::{Activity, Ledger};
use super::report::RunEnergy;
use super::sampler::Sampler;
use crate::error::{Error, Result};
use crate::files;
use serde::Serialize;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A ledger with what earlier attempts at the same run booked.
pub struct Books {
    ledger: Ledger,
    path: PathBuf,
    earlier: Option<RunEnergy>,
    /// Why it is not known what earlier attempts took.
    lost: Option<String>,
}

impl Books {
    /// Starts the books of a run in `root`; what is there is read when this is known to go on with it.
    pub fn start(sampler: &Sampler, root: &Path) -> Self {
        let path = root.join("energy.json");
        Books { ledger: Ledger::start(sampler), path, earlier: None, lost: None }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Forgets what another run left.
    pub fn begin(&mut self) -> Result<()> {
        match fs::remove_file(&self.path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::output(&self.path, e)),
            _ => Ok(()),
        }
    }

    /// Goes on with what the attempts before this one took. Where that cannot be read, the run's energy is not
    /// known, and the error says why.
    pub fn go_on(&mut self) -> std::result::Result<(), String> {
        let text = fs::read_to_string(&self.path).map_err(|e| e.to_string());
        match text.and_then(|text| serde_json::from_str(&text).map_err(|e| e.to_string())) {
            Ok(earlier) => {
                self.earlier = Some(earlier);
                Ok(())
            }
            Err(why) => {
                self.lost = Some(format!("what earlier attempts took is not known: {why}"));
                Err(why)
            }
        }
    }

    /// What is done now.
    pub fn activity(&self) -> Activity {
        self.ledger.activity()
    }

    pub fn enter(&mut self, activity: Activity) {
        self.ledger.enter(activity);
    }

    /// All that was booked until now, by earlier attempts too.
    pub fn so_far(&mut self) -> RunEnergy {
        let attempt = self.ledger.so_far();
        let run = match &self.earlier {
            Some(earlier) => attempt.after(earlier),
            None => attempt,
        };
        match &self.lost {
            Some(why) => run.without(why),
            None => run,
        }
    }

    /// Writes `report`, which holds [`Books::so_far`].
    pub fn write(&self, report: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string_pretty(report)
            .map_err(|e| Error::internal(format!("the run's energy is not JSON: {e}")))?;
        files::write_text(&self.path, &(text + "\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::energy::Meter;
    use crate::units::{Joules, Seconds};
    use std::thread;
    use std::time::{Duration, Instant};

    /// 40 W, counted every 100 us.
    struct Lamp(Instant);

    impl Meter for Lamp {
        fn name(&self) -> String {
            "a lamp".into()
        }

        fn read(&mut self) -> Result<Joules> {
            Ok(Joules((self.0.elapsed().as_secs_f64() * 1e4).floor() * 0.004))
        }

        fn update_period(&self) -> Seconds {
            Seconds(1e-4)
        }
    }

    /// Works on the run for a while, as one process would.
    fn attempt(root: &Path, goes_on: bool) -> (RunEnergy, std::result::Result<(), String>) {
        let sampler = Sampler::start(Box::new(Lamp(Instant::now()))).unwrap();
        let mut books = Books::start(&sampler, root);
        let read = match goes_on {
            true => books.go_on(),
            false => books.begin().map_err(|e| e.to_string()),
        };
        books.enter(Activity::Training);
        thread::sleep(Duration::from_millis(20));
        books.enter(Activity::Rest);
        let run = books.so_far();
        books.write(&run).unwrap();
        (run, read)
    }

    #[test]
    fn attempts_at_one_run_add_up_and_those_at_another_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let (first, _) = attempt(dir.path(), false);
        let (both, read) = attempt(dir.path(), true);
        assert_eq!((read, both.attempts), (Ok(()), 2));
        let (one, two) = (first.time(Activity::Training), both.time(Activity::Training));
        assert!(two.0 >= one.0 + 0.02, "{one} then {two}");
        assert!(both.energy(Activity::Training).unwrap().0 > first.energy(Activity::Training).unwrap().0);
        let (anew, _) = attempt(dir.path(), false);
        assert_eq!(anew.attempts, 1);
    }

    #[test]
    fn what_cannot_be_read_is_never_taken_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        attempt(dir.path(), false).1.unwrap();
        fs::write(dir.path().join("energy.json"), "{").unwrap();
        let (run, read) = attempt(dir.path(), true);
        assert!(read.is_err());
        assert_eq!(run.whole.energy, None);
        assert!(run.whole.note.contains("earlier attempts"), "{}", run.whole.note);
        assert!(run.energy(Activity::Training).unwrap_err().contains("earlier attempts"));
    }
}
