//! Two profiles side by side: what differs, and whether the spread of their runs explains it.

use super::rank::{probability, significant};
use super::report::{By, Origin, Profile};
use super::rows::{Key, Row};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// A difference is marked where chance gives one as large in fewer of 20 comparisons, all rows looked at
/// together.
const LEVEL: f64 = 0.05;

/// One row of both.
#[derive(Debug, Clone, Serialize)]
pub struct Compared {
    #[serde(flatten)]
    pub key: Key,
    /// Medians; absent from a profile without such a row.
    pub a_s: Option<f64>,
    pub b_s: Option<f64>,
    /// `b_s` less `a_s`, over `a_s`.
    pub change: Option<f64>,
    /// How probable it is that runs of one distribution differ as much, by their ranks.
    pub probability: Option<f64>,
    pub significant: bool,
}

/// What two profiles say.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// Settings that are not the same: name, then both values.
    pub settings: Vec<(String, Value, Value)>,
    /// Fewer runs than that on either side cannot tell any difference; absent where there are enough.
    pub too_few_runs: bool,
    /// Why A's and B's measurements are not to be relied on, where something speaks against them.
    pub disturbed: [Option<String>; 2],
    /// Whole runs, untraced.
    pub whole: Compared,
    /// By the greatest difference in seconds.
    pub rows: Vec<Compared>,
}

/// Compares `b` with `a`, rows put together as `by` says.
pub fn compare(a: &Profile, b: &Profile, by: By) -> Comparison {
    let [of_a, of_b] = [a, b].map(|profile| by_key(profile, by));
    let keys: std::collections::BTreeSet<&Key> = of_a.keys().chain(of_b.keys()).collect();
    let empty: &[f64] = &[];
    let seconds = |rows: &BTreeMap<Key, Row>, key: &Key| rows.get(key).map(|row| row.seconds.clone());
    let mut rows: Vec<Compared> =
        keys.into_iter().map(|key| row(key.clone(), seconds(&of_a, key), seconds(&of_b, key))).collect();
    let runs =
        |profile: &Profile| (!profile.runs.untraced_s.is_empty()).then(|| profile.runs.untraced_s.clone());
    let mut whole = row(Key::default(), runs(a), runs(b));
    let all: Vec<Option<f64>> =
        std::iter::once(whole.probability).chain(rows.iter().map(|row| row.probability)).collect();
    // Predictions have one value each, and no spread.
    let measured = a.origin == Origin::Measured && b.origin == Origin::Measured;
    let marks = significant(&all, LEVEL);
    whole.significant = measured && marks[0];
    for (row, mark) in rows.iter_mut().zip(&marks[1..]) {
        row.significant = measured && *mark;
    }
    let size = |row: &Compared| (row.b_s.unwrap_or(0.0) - row.a_s.unwrap_or(0.0)).abs();
    rows.sort_by(|x, y| size(y).total_cmp(&size(x)));
    // With every run of one side above every run of the other, the least that any test could say.
    let extreme = |profile: &Profile, shift: f64| -> Vec<f64> {
        let runs = profile.rows.first().map_or(empty, |row| &row.seconds).len();
        (0..runs).map(|at| at as f64 + shift).collect()
    };
    let least = probability(&extreme(a, 0.0), &extreme(b, 1e6));
    let too_few_runs = measured && least.is_none_or(|least| least > LEVEL / all.len() as f64);
    let disturbed = [a, b].map(|profile| profile.conditions.disturbed.clone());
    Comparison { settings: settings(a, b), too_few_runs, disturbed, whole, rows }
}

fn by_key(profile: &Profile, by: By) -> BTreeMap<Key, Row> {
    let rows = match by {
        By::Both => profile.rows.clone(),
        _ => profile.groups(by).into_iter().map(|(row, _)| row).collect(),
    };
    rows.into_iter().map(|row| (row.key.clone(), row)).collect()
}

fn row(key: Key, a: Option<Vec<f64>>, b: Option<Vec<f64>>) -> Compared {
    let median = |x: &Option<Vec<f64>>| Some(crate::stats::quantiles(x.as_deref()?)?.median_s);
    let (a_s, b_s) = (median(&a), median(&b));
    let change = match (a_s, b_s) {
        (Some(a), Some(b)) if a > 0.0 => Some((b - a) / a),
        _ => None,
    };
    let probability = probability(a.as_deref().unwrap_or(&[]), b.as_deref().unwrap_or(&[]));
    Compared { key, a_s, b_s, change, probability, significant: false }
}

/// What of the work, the devices and the origins differs.
fn settings(a: &Profile, b: &Profile) -> Vec<(String, Value, Value)> {
    let origin = |profile: &Profile| serde_json::to_value(profile.origin).unwrap_or(Value::Null);
    let mut found = Vec::new();
    if a.origin != b.origin {
        found.push(("origin".to_string(), origin(a), origin(b)));
    }
    let names: std::collections::BTreeSet<&String> = a.work.keys().chain(b.work.keys()).collect();
    for name in names {
        let [x, y] = [a, b].map(|profile| profile.work.get(name).cloned().unwrap_or(Value::Null));
        if x != y {
            found.push((name.clone(), x, y));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disturbance::Conditions;
    use crate::profile::energy::Energy;
    use crate::profile::runs::Runs;
    use crate::trace::Pass;

    /// Two phases; that of the head takes `head` times as long.
    fn profile(head: f64, runs: usize, seed: u64) -> Profile {
        let mut random = rand_mt::Mt64::new(seed);
        let mut sample = |mean: f64| -> Vec<f64> {
            let mut one = || mean * (1.0 + 0.05 * (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64);
            (0..runs).map(|_| one()).collect()
        };
        let row = |label: &str, seconds| Row {
            key: Key { phase: Some(label.into()), pass: Some(Pass::Forward), kernel: Some("matmul".into()) },
            calls: 1,
            seconds,
            ..Row::default()
        };
        let rows = vec![row("head", sample(0.002 * head)), row("loss", sample(0.001))];
        let runs = Runs { untraced_s: sample(0.003 + 0.002 * (head - 1.0)), traced_s: sample(0.003) };
        Profile {
            origin: Origin::Measured,
            work: serde_json::Map::new(),
            limits: None,
            no_limits: None,
            runs,
            planned: None,
            conditions: Conditions::default(),
            rows,
            energy: Energy::default(),
        }
    }

    fn marked(comparison: &Comparison) -> Vec<String> {
        comparison.rows.iter().filter(|row| row.significant).map(|row| row.key.name()).collect()
    }

    #[test]
    fn a_planted_difference_is_found_and_no_other() {
        let mut wrong = 0;
        for seed in 0..20 {
            let found = compare(&profile(1.0, 30, seed), &profile(1.1, 30, seed + 100), By::Phase);
            assert_eq!(found.rows[0].key.name(), "head forward");
            assert!(found.rows[0].significant, "seed {seed}");
            wrong += usize::from(found.rows[1].significant);
            assert!(found.whole.significant && !found.too_few_runs);
            let change = found.rows[0].change.unwrap();
            assert!((change - 0.1).abs() < 0.03, "{change}");
        }
        assert!(wrong <= 4, "{wrong} of 20 at a level of 5 %");
    }

    #[test]
    fn equal_profiles_rarely_differ() {
        let of = |seed| compare(&profile(1.0, 30, seed), &profile(1.0, 30, seed + 100), By::Phase);
        let wrong = (0..40).filter(|&seed| !marked(&of(seed)).is_empty()).count();
        assert!(wrong <= 6, "{wrong} of 40 at a level of 5 %");
        assert!(of(0).settings.is_empty());
    }

    #[test]
    fn too_few_runs_tell_nothing() {
        let found = compare(&profile(1.0, 3, 1), &profile(2.0, 3, 2), By::Phase);
        assert!(found.too_few_runs && marked(&found).is_empty());
    }

    #[test]
    fn other_work_is_named_and_rows_of_one_side_are_kept() {
        let (a, mut b) = (profile(1.0, 8, 1), profile(1.0, 8, 2));
        b.work.insert("batch_size".into(), 2.into());
        b.rows[1].key.phase = Some("optimizer".into());
        let found = compare(&a, &b, By::Kernel);
        assert_eq!(found.settings, [("batch_size".into(), Value::Null, 2.into())]);
        let found = compare(&a, &b, By::Both);
        let alone: Vec<_> = found.rows.iter().map(|row| (row.a_s.is_some(), row.b_s.is_some())).collect();
        assert!(alone.contains(&(true, false)) && alone.contains(&(false, true)), "{alone:?}");
    }
}
