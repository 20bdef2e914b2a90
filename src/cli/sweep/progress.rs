//! How far a sweep has come, and how long it may take.

use std::time::{Duration, Instant};

/// Counts models.
#[derive(Debug)]
pub(super) struct Progress {
    models: usize,
    begun: usize,
    trained: u32,
    start: Instant,
}

impl Progress {
    /// Of so many models in all.
    pub(super) fn new(models: usize) -> Self {
        Self { models, begun: 0, trained: 0, start: Instant::now() }
    }

    /// Notes a model that was finished before; its place in words.
    pub(super) fn skip(&mut self) -> String {
        self.begun += 1;
        format!("[{}/{}]", self.begun, self.models)
    }

    /// Notes a model whose training begins; its place in words, and what is left, itself included.
    pub(super) fn begin(&mut self) -> String {
        let place = self.skip();
        match left(self.start.elapsed(), self.trained, self.models - self.begun + 1) {
            Some(left) => format!("{place} ({left} left)"),
            None => place,
        }
    }

    /// Notes that the model whose training began is finished.
    pub(super) fn end(&mut self) {
        self.trained += 1;
    }
}

/// The time for `models` more, where `trained` took `elapsed`, features and tests included; none before the first.
fn left(elapsed: Duration, trained: u32, models: usize) -> Option<String> {
    if trained == 0 {
        return None;
    }
    let seconds = elapsed.as_secs_f64() / f64::from(trained) * models as f64;
    Some(match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 90.0 * 60.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_told_once_a_model_was_timed() {
        let after = |seconds, trained, models| left(Duration::from_secs(seconds), trained, models);
        assert_eq!(after(50, 0, 7), None);
        assert_eq!(after(30, 3, 5).unwrap(), "50 s");
        assert_eq!(after(600, 10, 30).unwrap(), "30 min");
        assert_eq!(after(3600, 2, 12).unwrap(), "6.0 h");
    }

    #[test]
    fn every_model_has_its_place() {
        let mut progress = Progress::new(3);
        assert_eq!(progress.skip(), "[1/3]");
        assert_eq!(progress.begin(), "[2/3]");
        progress.end();
        assert_eq!(progress.begin(), "[3/3] (0 s left)");
    }
}
