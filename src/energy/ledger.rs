//! A run's time and energy by what it was doing: every moment belongs to one activity, so that they sum to the whole.

use super::activity::Activity;
use super::report::{RunEnergy, Spent};
use super::sampler::{Sampler, Shared, lock};
use super::window::Window;
use crate::units::Joules;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Time and counted energy of one activity so far.
#[derive(Debug, Clone, Default)]
struct Account {
    time: Duration,
    counted: f64,
    visits: u32,
    /// Why the counter was not read at one of its ends.
    lost: Option<String>,
}

/// Books every moment since it was started, and what the counter moved by meanwhile, to the activity of the moment.
pub struct Ledger {
    shared: Arc<Mutex<Shared>>,
    whole: Window,
    activity: Activity,
    since: Instant,
    counter: Result<Joules, String>,
    accounts: BTreeMap<Activity, Account>,
}

impl Ledger {
    /// Starts in [`Activity::Rest`].
    pub fn start(sampler: &Sampler) -> Self {
        let (shared, whole) = (sampler.shared(), Window::start(sampler));
        let counter = lock(&shared).read().map_err(|e| e.to_string());
        let mut accounts = BTreeMap::new();
        accounts.insert(Activity::Rest, Account { visits: 1, ..Account::default() });
        Ledger { shared, whole, activity: Activity::Rest, since: Instant::now(), counter, accounts }
    }

    /// From now on `activity` is done; free where that is so already.
    pub fn enter(&mut self, activity: Activity) {
        if activity != self.activity {
            self.book();
            self.activity = activity;
            self.accounts.entry(activity).or_default().visits += 1;
        }
    }

    /// Books the time since the last booking.
    fn book(&mut self) {
        let counter = lock(&self.shared).read().map_err(|e| e.to_string());
        let now = Instant::now();
        let account = self.accounts.entry(self.activity).or_default();
        account.time += now - self.since;
        match (&self.counter, &counter) {
            (Ok(before), Ok(after)) => account.counted += after.0 - before.0,
            (Err(why), _) | (_, Err(why)) => account.lost = Some(why.clone()),
        }
        (self.since, self.counter) = (now, counter);
    }

    /// All that was booked until now; booking continues.
    pub fn so_far(&mut self) -> RunEnergy {
        self.book();
        let (name, calibration) = {
            let shared = lock(&self.shared);
            (shared.name(), shared.calibration())
        };
        let windows = self.accounts.iter().map(|(activity, account)| {
            let spent = Spent {
                time: account.time.into(),
                counted: Joules(account.counted),
                visits: account.visits,
                lost: account.lost.clone(),
                ..Spent::default()
            };
            (*activity, spent)
        });
        RunEnergy::new(name, calibration, windows.collect(), self.whole.so_far())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::energy::Meter;
    use crate::error::{Error, Result};
    use crate::units::Seconds;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    /// 40 W, counted every millisecond, until it breaks.
    struct Lamp {
        start: Instant,
        broken: Arc<AtomicBool>,
    }

    impl Meter for Lamp {
        fn name(&self) -> String {
            "a lamp".into()
        }

        fn read(&mut self) -> Result<Joules> {
            match self.broken.load(Ordering::Relaxed) {
                true => Err(Error::Device("it went out".into())),
                false => Ok(Joules((self.start.elapsed().as_secs_f64() * 1000.0).floor() * 0.04)),
            }
        }

        fn update_period(&self) -> Seconds {
            Seconds(0.001)
        }
    }

    fn sampler(broken: &Arc<AtomicBool>) -> Sampler {
        Sampler::start(Box::new(Lamp { start: Instant::now(), broken: broken.clone() })).unwrap()
    }

    fn pause(milliseconds: u64) {
        thread::sleep(Duration::from_millis(milliseconds));
    }

    #[test]
    fn the_activities_sum_to_the_whole() {
        let sampler = sampler(&Arc::default());
        let mut ledger = Ledger::start(&sampler);
        for _ in 0..3 {
            ledger.enter(Activity::Training);
            pause(20);
            ledger.enter(Activity::Training);
            ledger.enter(Activity::Checkpoint);
            pause(1);
        }
        ledger.enter(Activity::Evaluation);
        pause(15);
        let run = ledger.so_far();
        assert_eq!(run.windows.values().map(|spent| spent.time).sum::<Seconds>(), run.whole.time);
        let counted: Joules = run.windows.values().map(|spent| spent.counted).sum();
        assert!((counted.0 - run.whole.energy.unwrap().0).abs() < 1e-9);
        assert_eq!(run.windows[&Activity::Training].visits, 3);
        let training = run.energy(Activity::Training).unwrap();
        // A busy machine may pause between a reading and its time.
        let drawn = 40.0 * run.windows[&Activity::Training].time.0;
        assert!((training.0 - drawn).abs() < 0.5 * drawn, "{training:?}, not {drawn}");
        assert_eq!(run.windows.get(&Activity::Data), None);

        pause(20);
        let later = ledger.so_far();
        assert!(later.windows[&Activity::Evaluation].time > run.windows[&Activity::Evaluation].time);
        assert_eq!(later.windows[&Activity::Training], run.windows[&Activity::Training]);
    }

    #[test]
    fn a_counter_that_fails_spoils_its_own_window_and_the_whole() {
        let broken = Arc::default();
        let sampler = sampler(&broken);
        let mut ledger = Ledger::start(&sampler);
        ledger.enter(Activity::Training);
        pause(30);
        ledger.enter(Activity::Evaluation);
        broken.store(true, Ordering::Relaxed);
        ledger.enter(Activity::Checkpoint);
        let run = ledger.so_far();
        assert!(run.energy(Activity::Training).is_ok());
        for activity in [Activity::Evaluation, Activity::Checkpoint] {
            assert_eq!(run.energy(activity).unwrap_err(), "it went out");
        }
        assert_eq!((run.whole.energy, run.whole.note.as_str()), (None, "it went out"));
        assert_eq!(run.windows.values().map(|spent| spent.time).sum::<Seconds>(), run.whole.time);
    }
}
