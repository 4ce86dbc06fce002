//! When each launch ran, by events on the stream: the stream goes on meanwhile, and is asked at the step's
//! end.

use super::Cuda;
use super::errors;
use crate::error::Result;
use crate::trace::{self, Phase};
use cudarc::driver::result::{DriverError, event};
use cudarc::driver::sys::{CUevent, CUevent_flags, CUstream};
use std::time::{Duration, Instant};

/// An event that was recorded.
struct Event(CUevent);

impl Event {
    fn record(stream: CUstream) -> Result<Self, DriverError> {
        let event = Event(event::create(CUevent_flags::CU_EVENT_DEFAULT)?);
        // SAFETY: the event was created here, and the stream lives.
        unsafe { event::record(event.0, stream) }?;
        Ok(event)
    }

    /// From this one to a later one, both of which have happened.
    fn until(&self, later: &Event) -> Result<Duration, DriverError> {
        // SAFETY: both were created, and are destroyed only when dropped.
        let milliseconds = unsafe { event::elapsed(self.0, later.0) }?;
        Ok(Duration::from_secs_f64(f64::from(milliseconds.max(0.0)) * 1e-3))
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: created with this value and destroyed once. After a fault this fails, and so did what
        // matters.
        let _ = unsafe { event::destroy(self.0) };
    }
}

/// The launches whose times are not known yet.
pub(super) struct Pending {
    /// An event, and when the host saw the idle stream reach it.
    base: (Event, Instant),
    launches: Vec<(Phase, &'static str, Event, Event)>,
}

impl Cuda {
    /// Runs `work`, whose time on the stream [`Cuda::resolve`] will know.
    pub(super) fn timed(&self, kernel: &'static str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let stream = self.context.stream;
        let failed = |e: DriverError| self.failed(e.0, "measure a kernel's time");
        if self.pending.borrow().is_none() {
            self.wait()?;
            let base = Event::record(stream).map_err(failed)?;
            self.wait()?;
            self.pending.replace(Some(Pending { base: (base, Instant::now()), launches: Vec::new() }));
        }
        let start = Event::record(stream).map_err(failed)?;
        work()?;
        let end = Event::record(stream).map_err(failed)?;
        if let Some(pending) = self.pending.borrow_mut().as_mut() {
            pending.launches.push((trace::current(), kernel, start, end));
        }
        Ok(())
    }

    /// Waits for the launches that are being timed, and adds them to the trace.
    pub(super) fn resolve(&self) -> Result<()> {
        let Some(Pending { base: (base, began), launches }) = self.pending.take() else {
            return Ok(());
        };
        self.wait()?;
        let failed = |e: DriverError| self.failed(e.0, "measure a kernel's time");
        let mut last = began;
        for (phase, kernel, start, end) in &launches {
            let (before, time) = errors::calling(|| Ok((base.until(start), start.until(end))))?;
            // Offsets from the base have fewer digits than the times between: no launch starts before the
            // last ended.
            let from = (began + before.map_err(failed)?).max(last);
            last = from + time.map_err(failed)?;
            trace::add_in(*phase, kernel, from, last);
        }
        Ok(())
    }
}
