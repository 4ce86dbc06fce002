use super::*;

#[test]
fn the_mean_of_the_paper_is_over_whole_rows_of_fifteen_samples() {
    let start = Instant::now();
    let mut sums = Sums::new(start);
    // 100 W for the 15 samples of the first row, 200 W for the second, 900 W for the begun third.
    for tenth in 0..=640 {
        let seconds = tenth as f64 * 0.1;
        let row = (seconds / 30.0) as usize;
        let sample = Sample {
            power: Some(Watts([100.0, 200.0, 900.0][row])),
            utilisation: Some([0.5, 1.0, 0.0][row]),
            memory: Some(Bytes([1, 3, 4][row])),
            memory_total: Some(Bytes(4)),
            ..Sample::default()
        };
        sums.add(start + Duration::from_millis(tenth * 100), &sample, None, Seconds(0.1));
    }
    let measured = sums.measurement(Seconds(64.0));
    let paper = measured.paper.unwrap();
    assert_eq!((paper.power, paper.energy), (Watts(150.0), Joules(150.0 * 64.0)));
    assert_eq!((paper.utilisation, paper.memory), (Some(0.75), Some(0.5)));
    // 30 s of 100 W, 30 s of 200 W, 4 s of 900 W; the trapezoids that lead up begin 0.1 s early.
    let truth = 3000.0 + 6000.0 + 3600.0 + 0.05 * (100.0 + 700.0);
    assert!((measured.integrated.unwrap().0 - truth).abs() < 1e-6);
    assert_eq!(measured.peak_power, Some(Watts(900.0)));
}

#[test]
fn without_a_power_sensor_the_counter_has_a_peak() {
    let start = Instant::now();
    let mut sums = Sums::new(start);
    // 20 W, then 70 W for half a second, then 20 W, looked at every 0.1 s, and once sooner than the counter tells.
    let energy = |seconds: f64| 20.0 * seconds + 50.0 * (seconds - 1.0).clamp(0.0, 0.5);
    for hundredth in (0..200).step_by(10).chain([191]) {
        let seconds = f64::from(hundredth) * 0.01;
        let counted = Some(Joules(energy(seconds)));
        let at = start + Duration::from_secs_f64(seconds);
        sums.add(at, &Sample::default(), counted, Seconds(0.002));
    }
    let measured = sums.measurement(Seconds(2.0));
    let peak = measured.peak_power.unwrap().0;

    assert!((peak - 70.0).abs() < 0.1, "{peak} W");
    assert_eq!((measured.integrated, measured.paper), (None, None));
}

/// Dead sensors say zero, or nonsense; none of it is a number of a report.
#[test]
fn sensors_that_are_dead_are_absent() {
    let start = Instant::now();
    let dead = Sample {
        power: Some(Watts(0.0)),
        average_power: Some(Watts(f64::NAN)),
        utilisation: Some(f64::NAN),
        memory: Some(Bytes(0)),
        memory_total: Some(Bytes(0)),
        temperature: Some(0.0),
        clock_mhz: Some(0.0),
        ..Sample::default()
    };
    for counted in [None, Some(Joules(7.0))] {
        let mut sums = Sums::new(start);
        for second in 0..50 {
            sums.add(start + Duration::from_secs(second), &dead, counted, Seconds(0.1));
        }
        assert_eq!(
            sums.measurement(Seconds(49.0)),
            Measurement { time: Seconds(49.0), ..Measurement::default() }
        );
    }
    // Idle is not dead, and a power that is seen once is a power.
    let mut sums = Sums::new(start);
    let idle = Sample { power: Some(Watts(9.0)), utilisation: Some(0.0), ..dead };
    sums.add(start, &idle, Some(Joules(7.0)), Seconds(0.1));
    let measured = sums.measurement(Seconds(1.0));
    assert_eq!((measured.peak_power, measured.utilisation), (Some(Watts(9.0)), Some(0.0)));
    assert_eq!((measured.throttled, measured.memory), (Some(0.0), None));
}
