//! The largest batch that memory holds, from plans alone.

use crate::error::{Error, Result};
use crate::units::Bytes;

/// A batch size with its plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned<P> {
    pub batch: usize,
    pub plan: P,
}

/// Where memory ends.
#[derive(Debug)]
pub struct Fit<P> {
    /// The largest batch within the budget, if any is.
    pub fits: Option<Planned<P>>,
    /// The smallest beyond it, if any is.
    pub next: Option<Planned<P>>,
}

/// Doubles the batch until it needs more than `budget`, then halves the interval; `most` is the largest asked for.
///
/// `plan` gives a batch's plan and what it needs, which must not fall as the batch grows. What cannot be planned
/// because an index cannot count it does not fit either, and is no `next`.
pub fn largest_batch<P>(
    most: usize,
    budget: Bytes,
    mut plan: impl FnMut(usize) -> Result<(P, Bytes)>,
) -> Result<Fit<P>> {
    let mut fit = Fit { fits: None, next: None };
    let (mut low, mut high) = (0, None);
    loop {
        let batch = match high {
            Some(high) => low + (high - low) / 2,
            None => (2 * low).clamp(1, most),
        };
        if batch == low {
            return Ok(fit);
        }
        match plan(batch) {
            Ok((plan, needs)) if needs <= budget => {
                low = batch;
                fit.fits = Some(Planned { batch, plan });
            }
            Ok((plan, _)) => {
                high = Some(batch);
                fit.next = Some(Planned { batch, plan });
            }
            Err(Error::DoesNotFit(_)) => {
                high = Some(batch);
                fit.next = None;
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_ends_where_memory_does() {
        let search = |most: usize, budget: u64| {
            let mut plans = 0;
            let fit = largest_batch(most, Bytes(budget), |batch| {
                plans += 1;
                Ok(((), Bytes(10 + 7 * batch as u64)))
            });
            let fit = fit.unwrap();
            assert!(plans <= 20, "{plans} plans");
            [fit.fits, fit.next].map(|planned| planned.map(|planned| planned.batch))
        };
        assert_eq!(search(1000, 16), [None, Some(1)]);
        assert_eq!(search(1000, 17), [Some(1), Some(2)]);
        for budget in 18..400 {
            let most = (budget as usize - 10) / 7;
            assert_eq!(search(1000, budget), [Some(most), Some(most + 1)]);
        }
        let indices_end = largest_batch(1000, Bytes(100), |batch| match batch {
            ..6 => Ok(((), Bytes(1))),
            _ => Err(Error::DoesNotFit("an index".into())),
        });
        let indices_end = indices_end.unwrap();
        assert_eq!(indices_end.fits.map(|fits| fits.batch), Some(5));
        assert!(indices_end.next.is_none());
        assert_eq!(search(13, 10_000), [Some(13), None]);
        assert_eq!(search(1, 10_000), [Some(1), None]);
    }
}
