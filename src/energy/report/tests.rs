use super::*;

fn spent(time: f64, counted: f64, visits: u32) -> Spent {
    Spent { time: Seconds(time), counted: Joules(counted), visits, ..Spent::default() }
}

/// A counter that moves every 0.1 s and a power sensor.
fn run(windows: &[(Activity, Spent)]) -> RunEnergy {
    let calibration = Calibration { update_period: Seconds(0.1), ratio: Some(1.01) };
    let paper = PaperReading { power: Watts(90.0), utilisation: Some(0.5), ..PaperReading::default() };
    let sampled = Measurement {
        peak_power: Some(Watts(150.0)),
        utilisation: Some(0.8),
        memory: Some(Bytes(1000)),
        memory_peak: Some(Bytes(2000)),
        paper: Some(paper),
        ..Measurement::default()
    };
    let name = format!("a GPU, {calibration}");
    RunEnergy::new(name, calibration, windows.iter().cloned().collect(), sampled)
}

fn one() -> RunEnergy {
    run(&[
        (Activity::Data, spent(2.0, 60.0, 1)),
        (Activity::Training, spent(20.0, 2000.0, 2)),
        (Activity::Checkpoint, spent(0.3, 20.0, 3)),
        (Activity::Rest, spent(3.0, 90.0, 4)),
    ])
}

#[test]
fn figures_follow_from_time_energy_and_work() {
    let run = one();
    assert_eq!(run.whole.energy, Some(Joules(2170.0)));
    assert!((run.whole.time.0 - 25.3).abs() < 1e-12);
    let cost = run.efficiency(Activity::Training, Work { samples: 40, tokens: 8000 });
    assert_eq!((cost.samples_per_second, cost.samples_per_second_per_watt), (2.0, Some(0.02)));
    assert_eq!((cost.joules_per_sample, cost.joules_per_token), (Some(50.0), Some(0.25)));
    // The paper: 90 W over 25 s of training with its checkpoints.
    let paper = run.paper(40, Seconds(25.0)).unwrap();
    assert_eq!((paper.energy_j, paper.samples_per_second), (Joules(2250.0), 1.6));
    assert!((paper.samples_per_second_per_watt - 1.6 / 90.0).abs() < 1e-12);
    assert_eq!((paper.gpu_utilisation, paper.gpu_memory), (Some(0.5), None));
}

#[test]
fn a_window_is_long_enough_for_all_of_its_ends() {
    // 10 steps of 0.1 s for one visit, twice that for four.
    for (time, visits, known) in [(1.0, 1, true), (0.99, 1, false), (2.0, 4, true), (1.99, 4, false)] {
        let run = run(&[(Activity::Training, spent(time, 5.0, visits))]);
        assert_eq!(run.energy(Activity::Training).is_ok(), known, "{time} s in {visits} visits");
    }
    let run = one();
    let why = run.energy(Activity::Checkpoint).unwrap_err();
    assert!(why.contains("300.0 ms") && why.contains("needs 1.7 s"), "{why}");
    assert_eq!(run.windows[&Activity::Checkpoint].counted, Joules(20.0), "which the whole needs");
    let none = run.efficiency(Activity::Checkpoint, Work { samples: 1, tokens: 0 });
    assert_eq!((none.joules_per_sample, none.samples_per_second_per_watt), (None, None));
    assert_eq!(run.energy(Activity::Evaluation).unwrap_err(), "it did not happen");
}

#[test]
fn attempts_add_up() {
    let late =
        run(&[(Activity::Training, spent(5.0, 400.0, 1)), (Activity::Checkpoint, spent(3.0, 100.0, 1))]);
    let sum = late.clone().after(&one());
    assert_eq!((sum.attempts, sum.whole.energy), (2, Some(Joules(2670.0))));
    assert!((sum.whole.time.0 - 33.3).abs() < 1e-12);
    assert_eq!(sum.windows[&Activity::Training].energy, Some(Joules(2400.0)));
    // Too short in the first attempt, and long enough with the second.
    assert_eq!(sum.windows[&Activity::Checkpoint].energy, Some(Joules(120.0)));
    assert_eq!(sum.whole.utilisation, Some(0.8));
    assert_eq!(sum.after(&one()).attempts, 3);

    let mut lost = one();
    lost.windows.get_mut(&Activity::Training).unwrap().lost = Some("the GPU is lost".into());
    let sum = late.after(&lost);
    assert_eq!((sum.whole.energy, sum.whole.note.as_str()), (None, "the GPU is lost"));
    assert!(sum.windows[&Activity::Rest].energy.is_some(), "what was read is kept");
}

#[test]
fn a_report_can_be_read_back() {
    let text = serde_json::to_string(&one()).unwrap();
    assert_eq!(serde_json::from_str::<RunEnergy>(&text).unwrap(), one());
    for part in
        ["\"update_period_s\":0.1", "\"counter_over_integrated\":1.01", "\"training\":{\"time_s\":20.0"]
    {
        assert!(text.contains(part), "{text} has no {part}");
    }
}

#[test]
fn people_get_a_table_a_line_or_the_reason() {
    let run = one();
    let table = run.table();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[2], ["training", "20.0", "s", "2.00", "kJ", "100", "W"]);
    assert_eq!(rows[3][..4], ["checkpoint", "300.0", "ms", "n/a"]);
    assert!(table.contains("n/a in energy: checkpoint: too short"), "{table}");
    assert_eq!(rows[5][..5], ["whole", "25.3", "s", "2.17", "kJ"]);
    assert!(table.contains("peak power 150 W, GPU busy 80 %"), "{table}");
    assert!(table.ends_with("counter every 100.0 ms, counter/integrated 1.01"), "{table}");
    let cost = run.efficiency(Activity::Training, Work { samples: 40, tokens: 8000 });
    let line = run.line(Activity::Training, &cost, "token");
    for part in
        ["energy: 2.17 kJ, 85.8 W mean, 150 W peak", "50.0 J/sample, 250 mJ/token, 0.0200 samples/s/W"]
    {
        assert!(line.contains(part), "{line} does not say {part}");
    }
    let mut lost = one();
    lost.windows.values_mut().for_each(|spent| spent.lost = Some("no sensor: none".into()));
    lost.settle();
    assert_eq!(lost.table(), "energy: n/a: no sensor: none");
    assert_eq!(lost.line(Activity::Training, &cost, "token"), lost.table());
}
