//! emissions.csv: the energy of a study's runs as CodeCarbon writes it, with emissions at an intensity that the user
//! knows.

use super::{Cell, Results};
use crate::reading::Reading;
use crate::table::{Column, Table, Value};
use crate::units::Joules;

/// One row for every run whose energy was measured, in the columns of CodeCarbon 3 (`EmissionsData`); what this program
/// does not know is empty. `intensity` is in grams of CO2 equivalents a kilowatt-hour, `timestamp` as
/// `2026-11-23T12:34:56`.
pub fn emissions(results: &Results, intensity: f64, timestamp: &str) -> String {
    let environment = |key: &str| {
        let found = results.environment.iter().find(|(name, _)| name == key);
        found.map_or(String::new(), |(_, value)| value.clone())
    };
    let (system, processor, threads) =
        (environment("system"), environment("processor"), environment("threads"));
    let mut runs: Vec<&Cell> = Vec::new();
    for cell in &results.cells {
        let is_known = cell.activities.whole.energy_joules.value().is_some();
        // The protocols of a run share its energy.
        if is_known && !runs.iter().any(|run| run.run == cell.run) {
            runs.push(cell);
        }
    }
    let number = |value: Option<f64>| Value::from(Reading::or_why(value, "not recorded"));
    let seconds = |cell: &Cell| cell.activities.whole.seconds.value();
    let kwh = |cell: &Cell| Some(Joules(cell.activities.whole.energy_joules.value()?).kwh());
    let kilograms = move |cell: &Cell| Some(kwh(cell)? * intensity / 1000.0);
    let rate = move |cell: &Cell| Some(kilograms(cell)? / seconds(cell)?);
    let power = move |cell: &Cell| Some(cell.activities.whole.energy_joules.value()? / seconds(cell)?);
    let on_gpu = |cell: &Cell| cell.device != "cpu";
    let if_gpu = move |gpu: bool, cell: &Cell, value: Option<f64>| match on_gpu(cell) == gpu {
        true => number(value),
        false => Value::from(0.0),
    };
    let fixed = |key: &'static str, text: &str| {
        let text = text.to_string();
        Column::file(key, move |_: &&Cell| text.clone())
    };
    let columns = [
        fixed("timestamp", timestamp),
        fixed("project_name", &results.title),
        Column::file("run_id", |cell: &&Cell| cell.run.clone()),
        fixed("experiment_id", ""),
        Column::file("duration", move |cell: &&Cell| number(seconds(cell))),
        Column::file("emissions", move |cell: &&Cell| number(kilograms(cell))),
        Column::file("emissions_rate", move |cell: &&Cell| number(rate(cell))),
        fixed("cpu_utilization_percent", ""),
        fixed("ram_utilization_percent", ""),
        fixed("ram_used_gb", ""),
        Column::file("cpu_power", move |cell: &&Cell| if_gpu(false, cell, power(cell))),
        Column::file("gpu_power", move |cell: &&Cell| if_gpu(true, cell, power(cell))),
        fixed("ram_power", ""),
        Column::file("cpu_energy", move |cell: &&Cell| if_gpu(false, cell, kwh(cell))),
        Column::file("gpu_energy", move |cell: &&Cell| if_gpu(true, cell, kwh(cell))),
        fixed("ram_energy", ""),
        Column::file("energy_consumed", move |cell: &&Cell| number(kwh(cell))),
        fixed("water_consumed", ""),
        fixed("country_name", ""),
        fixed("country_iso_code", ""),
        fixed("region", ""),
        fixed("cloud_provider", ""),
        fixed("cloud_region", ""),
        fixed("os", &system),
        fixed("python_version", ""),
        fixed("codecarbon_version", ""),
        fixed("cpu_count", &threads),
        fixed("cpu_model", &processor),
        Column::file("gpu_count", move |cell: &&Cell| u64::from(on_gpu(cell))),
        Column::file(
            "gpu_model",
            move |cell: &&Cell| if on_gpu(cell) { cell.device.clone() } else { String::new() },
        ),
        fixed("longitude", ""),
        fixed("latitude", ""),
        fixed("ram_total_size", ""),
        fixed("tracking_mode", "machine"),
        fixed("on_cloud", "N"),
        fixed("pue", "1"),
        fixed("wue", "0"),
    ];
    Table::new(&columns, &runs).csv()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::results::Taken;
    use crate::study::results::tests::cell;

    #[test]
    fn grams_follow_from_the_kilowatt_hours_of_every_run() {
        let mut one = cell("led", "qmsum", 1024);
        one.run = "led_qmsum".into();
        // 2 kWh in an hour.
        one.activities.whole =
            Taken { seconds: Reading::measured(3600.0), energy_joules: Reading::measured(7.2e6) };
        let other_protocol = one.clone();
        let unmeasured = Cell { run: "other".into(), ..cell("led", "d", 2048) };
        let environment = vec![("threads".into(), "2".into()), ("processor".into(), "a, b".into())];
        let cells = vec![one, other_protocol, unmeasured];
        let results = Results { title: "Study".into(), environment, cells, ..Results::default() };
        let text = emissions(&results, 250.0, "2026-11-28T20:00:00");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "one run with energy: {text}");
        let keys: Vec<&str> = lines[0].split(',').collect();
        assert_eq!((keys.len(), keys[0], keys[5], keys[36]), (37, "timestamp", "emissions", "wue"));
        let values: Vec<&str> = lines[1].split(',').collect();
        let at = |key: &str| values[keys.iter().position(|known| *known == key).unwrap()];
        assert_eq!(
            (at("duration"), at("energy_consumed"), at("cpu_energy"), at("gpu_energy")),
            ("3600", "2", "2", "0")
        );
        assert_eq!((at("emissions"), at("cpu_power"), at("cpu_count")), ("0.5", "2000", "2"));
        assert!((at("emissions_rate").parse::<f64>().unwrap() - 0.5 / 3600.0).abs() < 1e-15);
        assert!(lines[1].contains("\"a, b\""));
    }
}
