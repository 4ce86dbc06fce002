//! Runs as a trace in the Trace Event Format, which Perfetto and Chrome's tracing page show.
//!
//! "Trace Event Format", Google: complete events (`X`) that nest by their times, counters (`C`), names (`M`).
//! A run holds its passes, a pass its phases, a phase its launches.

use super::runs::Run;
use crate::device::repeater::Launched;
use crate::energy::Sample;
use crate::error::{Error, Result};
use crate::trace::Slice;
use crate::units::Joules;
use serde_json::{Value, json};
use std::time::Instant;

const THREAD: u32 = 1;

/// What happened while the runs were done.
#[derive(Default)]
pub struct Meanwhile {
    /// What the sensors said.
    pub samples: Vec<(Instant, Sample)>,
    /// When the energy counter moved, and to what.
    pub changes: Vec<(Instant, Joules)>,
}

/// Whose runs they are.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    pub title: &'a str,
    pub device: &'a str,
    /// The process of the trace: the rank, where there are several.
    pub process: usize,
}

/// Traces of several ranks as one: the clock of each begins with its first run.
pub fn merged(traces: Vec<String>) -> Result<Value> {
    let mut events = Vec::new();
    for text in traces {
        let trace = serde_json::from_str::<Value>(&text);
        let trace = trace.map_err(|e| Error::internal(format!("a trace is not JSON: {e}")))?;
        events.extend(trace["traceEvents"].as_array().cloned().unwrap_or_default());
    }
    Ok(json!({ "displayTimeUnit": "ms", "traceEvents": events }))
}

/// The trace of `runs`, each of which launched `launches`, as one JSON object.
pub fn trace(named: Named, runs: &[Run], launches: &[Launched], meanwhile: &Meanwhile) -> Value {
    let Some(zero) = runs.first().map(|run| run.start) else {
        return json!({ "traceEvents": [] });
    };
    let process = named.process;
    let name = |what: &str, name: &str| json!({ "ph": "M", "name": what, "pid": process, "tid": THREAD, "args": { "name": name } });
    let last = runs.last().map_or(zero, |run| run.end);
    let list = vec![name("process_name", named.title), name("thread_name", named.device)];
    let mut events = Events { zero, process, list };
    for (number, run) in runs.iter().enumerate() {
        events.run(number, run);
        // Only then are the launches known to be those of this run.
        if run.slices.len() == launches.len() {
            for (slice, launched) in run.slices.iter().zip(launches) {
                events.counter("tensors", slice.start, "bytes", launched.live as f64);
            }
        }
        events.counter("tensors", run.end, "bytes", launches.last().map_or(0, |l| l.live) as f64);
    }
    for (at, sample) in meanwhile.samples.iter().filter(|(at, _)| (zero..=last).contains(at)) {
        let values = [
            ("power sensor", "W", sample.power.map(|power| power.0)),
            ("memory in use", "bytes", sample.memory.map(|bytes| bytes.0 as f64)),
            ("clock", "MHz", sample.clock_mhz),
            ("memory clock", "MHz", sample.memory_clock_mhz),
            ("temperature", "C", sample.temperature),
        ];
        for (name, unit, value) in values {
            if let Some(value) = value {
                events.counter(name, *at, unit, value);
            }
        }
    }
    for pair in meanwhile.changes.windows(2).filter(|pair| (zero..=last).contains(&pair[0].0)) {
        let power = (pair[1].1.0 - pair[0].1.0) / (pair[1].0 - pair[0].0).as_secs_f64();
        if power.is_finite() {
            events.counter("power by the energy counter", pair[0].0, "W", power);
        }
    }
    events.list.sort_by(|a, b| microseconds(a).total_cmp(&microseconds(b)));
    json!({ "displayTimeUnit": "ms", "traceEvents": events.list })
}

/// When an event begins; names come before everything.
fn microseconds(event: &Value) -> f64 {
    event["ts"].as_f64().unwrap_or(-1.0)
}

struct Events {
    zero: Instant,
    process: usize,
    list: Vec<Value>,
}

impl Events {
    /// Nanoseconds since the first run began, as the format's microseconds.
    fn at(&self, instant: Instant) -> f64 {
        instant.saturating_duration_since(self.zero).as_nanos() as f64 / 1e3
    }

    fn complete(&mut self, category: &str, name: &str, [start, end]: [Instant; 2]) {
        let nanoseconds = end.saturating_duration_since(start).as_nanos();
        self.list.push(json!({
            "ph": "X", "cat": category, "name": name, "pid": self.process, "tid": THREAD,
            "ts": self.at(start), "dur": nanoseconds as f64 / 1e3,
        }));
    }

    fn counter(&mut self, name: &str, at: Instant, unit: &str, value: f64) {
        let ts = self.at(at);
        let process = self.process;
        self.list.push(json!({ "ph": "C", "name": name, "pid": process, "ts": ts, "args": { unit: value } }));
    }

    fn run(&mut self, number: usize, run: &Run) {
        self.complete("run", &format!("run {}", number + 1), [run.start, run.end]);
        let mut slices = [&run.slices[..], &run.exchanges].concat();
        slices.sort_by_key(|slice| slice.start);
        let whole = |slices: &[Slice]| [slices[0].start, slices[slices.len() - 1].end];
        for pass in slices.chunk_by(|a, b| a.phase.pass == b.phase.pass) {
            self.complete("pass", pass[0].phase.pass.name(), whole(pass));
            for phase in pass.chunk_by(|a, b| a.phase == b.phase) {
                self.complete("phase", phase[0].phase.label, whole(phase));
                for slice in phase {
                    self.complete("kernel", slice.kernel, [slice.start, slice.end]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Pass, Phase};
    use crate::units::Watts;
    use std::time::Duration;

    #[test]
    fn launches_nest_in_phases_passes_and_runs() {
        let zero = Instant::now();
        let at = |micro: u64| zero + Duration::from_micros(micro);
        let slice = |label, pass, kernel, from, to| Slice {
            phase: Phase { label, pass },
            kernel,
            start: at(from),
            end: at(to),
        };
        let slices = vec![
            slice("head", Pass::Forward, "matmul", 1, 4),
            slice("head", Pass::Forward, "cast", 5, 6),
            slice("loss", Pass::Forward, "cross_entropy", 6, 7),
            slice("loss", Pass::Backward, "cross_entropy", 8, 9),
        ];
        let run = Run { start: at(0), end: at(10), slices, exchanges: Vec::new() };
        let sample = Sample { power: Some(Watts(50.0)), ..Sample::default() };
        let meanwhile = Meanwhile {
            samples: vec![(at(5), sample), (at(99), sample)],
            changes: vec![(at(2), Joules(1.0)), (at(4), Joules(1.0 + 6e-5))],
        };
        let named = Named { title: "led", device: "cpu", process: 1 };
        let trace = trace(named, &[run], &[], &meanwhile);
        let events = trace["traceEvents"].as_array().unwrap();
        let complete: Vec<_> = events
            .iter()
            .filter(|event| event["ph"] == "X")
            .map(|e| (e["name"].as_str().unwrap(), e["ts"].as_f64().unwrap(), e["dur"].as_f64().unwrap()))
            .collect();
        let expected = [
            ("run 1", 0.0, 10.0),
            ("forward", 1.0, 6.0),
            ("head", 1.0, 5.0),
            ("matmul", 1.0, 3.0),
            ("cast", 5.0, 1.0),
            ("loss", 6.0, 1.0),
            ("cross_entropy", 6.0, 1.0),
            ("backward", 8.0, 1.0),
            ("loss", 8.0, 1.0),
            ("cross_entropy", 8.0, 1.0),
        ];
        assert_eq!(complete, expected);
        let counters: Vec<_> = events.iter().filter(|e| e["ph"] == "C" && e["name"] != "tensors").collect();
        assert_eq!(counters.len(), 2, "a sample after the last run has no place");
        let power = counters.iter().find(|e| e["name"] == "power by the energy counter").unwrap();
        assert!((power["args"]["W"].as_f64().unwrap() - 30.0).abs() < 1e-6, "60 uJ in 2 us: {power}");
    }
}
