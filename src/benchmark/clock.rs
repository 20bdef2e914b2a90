//! How often something is run, and the time it took each time.

use super::BenchmarkError;
use super::statistics::CONFIDENCE;
use std::time::{Duration, Instant};

/// Fewer repeats give no figure.
pub const LEAST_REPEATS: usize = 5;
/// Fewer runs before the clock counts are not taken unless asked for: a GPU chooses its algorithms in the first run of a
/// shape, and in the third it begins to replay what it recorded.
const LEAST_WARMUPS: usize = 3;
/// More repeats than this are not taken unless asked for.
const MOST_REPEATS: usize = 1000;
/// Share of the time that goes to warming up, unless asked otherwise.
const WARMUP_SHARE: f64 = 0.2;

/// How often to run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Protocol {
    /// Runs before the clock counts. Default: as many as fit a fifth of `budget`, at least [`LEAST_WARMUPS`].
    warmups: Option<usize>,
    /// Runs that count. Default: as many as fit `budget`, at least [`LEAST_REPEATS`].
    repeats: Option<usize>,
    budget: Duration,
}

/// The times of the runs that counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    /// Runs before them.
    pub warmups: usize,
    /// Seconds of each.
    pub seconds: Vec<f64>,
}

impl Protocol {
    /// # Errors
    /// [`BenchmarkError::TooFewRepeats`] below [`LEAST_REPEATS`].
    pub fn new(
        warmups: Option<usize>,
        repeats: Option<usize>,
        budget: Duration,
    ) -> Result<Self, BenchmarkError> {
        match repeats {
            Some(few) if few < LEAST_REPEATS => Err(BenchmarkError::TooFewRepeats(few)),
            _ => Ok(Self { warmups, repeats, budget }),
        }
    }

    /// Runs until there are enough times. `run` returns when its work is done, not merely enqueued.
    pub fn samples<E>(&self, mut run: impl FnMut() -> Result<(), E>) -> Result<Samples, E> {
        let begun = Instant::now();
        let mut warmups = 0;
        while self.wants_warmup(warmups, begun.elapsed()) {
            run()?;
            warmups += 1;
        }
        let begun = Instant::now();
        let mut seconds = Vec::with_capacity(self.repeats.unwrap_or(MOST_REPEATS));
        while self.wants_repeat(seconds.len(), begun.elapsed()) {
            let start = Instant::now();
            run()?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        Ok(Samples { warmups, seconds })
    }

    /// How many runs warm up and how many count, where one takes `seconds` and their number must be known before.
    pub(super) fn planned(&self, seconds: f64) -> (usize, usize) {
        let fitting = |share: f64, least: usize| {
            ((share * self.budget.as_secs_f64() / seconds) as usize).clamp(least, MOST_REPEATS)
        };
        let warmups = self.warmups.unwrap_or_else(|| fitting(WARMUP_SHARE, LEAST_WARMUPS));
        (warmups, self.repeats.unwrap_or_else(|| fitting(1.0, LEAST_REPEATS)))
    }

    /// Whether one more run is due before the clock counts.
    fn wants_warmup(&self, done: usize, elapsed: Duration) -> bool {
        let enough = done >= LEAST_WARMUPS && elapsed >= self.budget.mul_f64(WARMUP_SHARE);
        self.warmups.map_or(!enough && done < MOST_REPEATS, |warmups| done < warmups)
    }

    /// Whether one more run is due that counts.
    fn wants_repeat(&self, done: usize, elapsed: Duration) -> bool {
        let enough = done >= LEAST_REPEATS && elapsed >= self.budget;
        self.repeats.map_or(!enough && done < MOST_REPEATS, |repeats| done < repeats)
    }
}

impl Protocol {
    /// In words, for whoever reads a figure; `pipelined` where some are of batches that overlapped.
    pub fn in_words(&self, pipelined: bool) -> String {
        let seconds = self.budget.as_secs_f64();
        let warmups = match self.warmups {
            Some(warmups) => warmups.to_string(),
            None => format!("as many as fit {:.1} s (at least {LEAST_WARMUPS})", seconds * WARMUP_SHARE),
        };
        let repeats = match self.repeats {
            Some(repeats) => repeats.to_string(),
            None => {
                format!("as many as fit {seconds:.1} s (at least {LEAST_REPEATS}, at most {MOST_REPEATS})")
            }
        };
        let overlap = if pipelined {
            "; the rate of scope model is of batches of which the next is submitted before the last one's answer is fetched, \
             and the latency of single ones"
        } else {
            ""
        };
        format!(
            "warm-ups {warmups}, repeats {repeats}; the clock covers one batch (model), one pass over the files (files) or \
             one epoch (train), and stops when the answers are in host memory, for which the device must have finished\
             {overlap}; images/s are all images by all seconds, with the {:.0} % interval of Student's t over the repeats; \
             p50, p95 and p99 are quantiles of the repeats; TFLOP/s count two for each multiply–accumulate of the \
             network's definition, of which fast convolutions and the training of the head do fewer",
            100.0 * CONFIDENCE
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protocol(warmups: Option<usize>, repeats: Option<usize>, budget: Duration) -> Protocol {
        Protocol::new(warmups, repeats, budget).unwrap()
    }

    #[test]
    fn it_runs_as_often_as_it_is_told() {
        let mut runs = 0;
        let count = || {
            runs += 1;
            Ok::<(), ()>(())
        };
        let samples = protocol(Some(3), Some(7), Duration::ZERO).samples(count).unwrap();
        assert_eq!((samples.warmups, samples.seconds.len(), runs), (3, 7, 10));
    }

    #[test]
    fn time_decides_within_limits() {
        let second = Duration::from_secs(1);
        let open = protocol(None, None, 10 * second);
        assert!(open.wants_warmup(2, 99 * second) && open.wants_warmup(50, second));
        assert!(!open.wants_warmup(3, 2 * second));
        assert!(open.wants_repeat(4, 99 * second) && open.wants_repeat(999, 9 * second));
        assert!(!open.wants_repeat(5, 10 * second) && !open.wants_repeat(1000, second));
        assert_eq!(open.planned(0.5), (4, 20));
        assert_eq!(open.planned(1e9), (3, 5));
        assert_eq!(open.planned(1e-9), (1000, 1000));
        assert_eq!(protocol(Some(3), Some(7), second).planned(1.0), (3, 7));
        let none = protocol(Some(0), Some(2000), second);
        assert!(!none.wants_warmup(0, Duration::ZERO));
        assert!(none.wants_repeat(1999, 99 * second) && !none.wants_repeat(2000, Duration::ZERO));
    }

    #[test]
    fn too_few_repeats_are_refused_and_errors_end_the_runs() {
        for few in 0..LEAST_REPEATS {
            let refused = Protocol::new(None, Some(few), Duration::ZERO).unwrap_err();
            assert!(refused.to_string().contains("--repeats 5"), "{refused}");
        }
        let mut left = 4;
        let failing = || {
            left -= 1;
            if left == 0 { Err("broken") } else { Ok(()) }
        };
        assert_eq!(protocol(Some(1), Some(5), Duration::ZERO).samples(failing), Err("broken"));
    }
}
