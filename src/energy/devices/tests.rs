use super::*;
use crate::collective::tests::threads::ranks_over;
use crate::energy::{Activity, Calibration, Spent, Work};

/// 20 s of training and 1 s of data at so many watts each, by a counter of a period.
fn run(watts: [f64; 2], period: f64) -> RunEnergy {
    let spent = |time: f64, watts: f64| Spent {
        time: Seconds(time),
        counted: Joules(time * watts),
        visits: 1,
        ..Spent::default()
    };
    let windows = [(Activity::Training, spent(20.0, watts[0])), (Activity::Data, spent(1.0, watts[1]))];
    let sampled = Measurement {
        peak_power: Some(Watts(2.0 * watts[0])),
        utilisation: Some(watts[0] / 1000.0),
        memory: Some(Bytes(watts[0] as u64)),
        memory_peak: Some(Bytes(2 * watts[0] as u64)),
        paper: Some(PaperReading {
            power: Watts(watts[0]),
            energy: Joules(21.0 * watts[0]),
            ..PaperReading::default()
        }),
        ..Measurement::default()
    };
    let calibration = Calibration { update_period: Seconds(period), ratio: None };
    RunEnergy::new("a GPU".into(), calibration, windows.into_iter().collect(), sampled)
}

fn sum(devices: &[RunEnergy]) -> RunEnergy {
    let named: Vec<_> =
        devices.iter().enumerate().map(|(at, run)| (format!("GPU-{at} of a"), run.clone())).collect();
    RunEnergy::summed(&named[0], &named[1..])
}

#[test]
fn joules_are_of_all_devices_and_the_time_is_of_the_first() {
    let all = sum(&[run([100.0, 10.0], 0.01), run([300.0, 20.0], 0.05), run([200.0, 30.0], 0.02)]);
    assert_eq!(all.energy(Activity::Training), Ok(Joules(12_000.0)));
    assert_eq!((all.whole.energy, all.whole.time), (Some(Joules(12_060.0)), Seconds(21.0)));
    assert_eq!(all.calibration.update_period, Seconds(0.05));
    assert!(all.whole.note.contains("summed over 3 devices"), "{}", all.whole.note);
    // 60 samples of all ranks in 20 s at 600 W.
    let cost = all.efficiency(Activity::Training, Work { samples: 60, tokens: 600 });
    assert_eq!((cost.joules_per_sample, cost.joules_per_token), (Some(200.0), Some(20.0)));
    assert_eq!((cost.samples_per_second, cost.samples_per_second_per_watt), (3.0, Some(0.005)));
    let paper = all.paper(60, Seconds(20.0)).unwrap();
    assert_eq!((paper.mean_power_w, paper.samples_per_second_per_watt), (Watts(600.0), 0.005));
    let whole = all.whole;
    assert_eq!((whole.peak_power, whole.memory_peak), (None, Some(Bytes(600))));
    assert!((whole.utilisation.unwrap() - 0.2).abs() < 1e-12 && whole.memory == Some(Bytes(200)));
}

#[test]
fn a_device_that_is_not_known_leaves_no_sum() {
    let mut dark = run([300.0, 20.0], 0.01);
    dark.windows.get_mut(&Activity::Training).unwrap().lost = Some("no sensor".into());
    dark.settle();
    let mut still = run([0.0, 0.0], 0.01);
    still.settle();
    for (other, why) in [(dark, "GPU-1 of a: no sensor"), (still, "GPU-1 of a: the counter did not move")] {
        let all = sum(&[run([100.0, 10.0], 0.01), other]);
        assert_eq!(all.whole.energy, None);
        assert!(all.whole.note.contains(why), "{}", all.whole.note);
        assert!(all.energy(Activity::Training).unwrap_err().contains(why));
    }
    let measured = |energy: Option<f64>| Measurement {
        energy: energy.map(Joules),
        note: "a lamp".into(),
        ..Measurement::default()
    };
    let two = |a, b| Measurement::summed(&("one".into(), measured(a)), &[("two".into(), measured(b))]);
    assert_eq!(two(Some(1.0), Some(2.0)).energy, Some(Joules(3.0)));
    let unknown = two(Some(1.0), None);
    assert_eq!((unknown.energy, unknown.note.as_str()), (None, "two: a lamp"));
}

#[test]
fn a_device_is_counted_once_however_many_ranks_have_it() {
    let spent = |host: &str, device: &str, rank: usize, joules: Option<f64>| {
        let energy_j = joules.map(Joules);
        (DeviceEnergy { host: host.into(), device: device.into(), ranks: vec![rank], energy_j }, rank)
    };
    let all = vec![
        spent("a", "cpu", 0, None),
        spent("a", "cpu", 1, Some(7.0)),
        spent("a", "cpu", 2, Some(8.0)),
        spent("b", "cpu", 3, Some(11.0)),
        spent("b", "GPU-1", 4, None),
    ];
    let devices = once(all);
    let of: Vec<_> = devices.iter().map(|(of, counted)| (of.ranks.clone(), of.energy_j, *counted)).collect();
    let joules = |joules| Some(Joules(joules));
    assert_eq!(of, [(vec![0, 1, 2], joules(7.0), 1), (vec![3], joules(11.0), 3), (vec![4], None, 4)]);
}

/// Ranks of one processor have one counter between them.
#[test]
fn ranks_of_one_device_are_no_sum() {
    let all = ranks_over(2, None, |group| {
        let watts = 100.0 + group.rank() as f64;
        of_devices(run([watts, 10.0], 0.01), &Device::cpu(), group).unwrap()
    });
    for (all, devices) in all {
        assert_eq!(all, run([100.0, 10.0], 0.01));
        assert_eq!(devices.len(), 1);
        assert_eq!((&devices[0].ranks, devices[0].energy_j), (&vec![0, 1], Some(Joules(2010.0))));
    }
}
