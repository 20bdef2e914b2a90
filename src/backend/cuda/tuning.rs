//! Choosing the fastest of several ways to compute the same.
//!
//! Left alone, a device takes the first way that is offered for everything: no clock decides, and trainings repeat bit
//! for bit. Between [`Tuner::begin`] and [`Tuner::finish`] every choice that comes up is looked up in a table of plans
//! and, where that knows nothing, measured ([`Stopwatch`]). Afterwards the table still answers for what comes up later,
//! but nothing is measured any more. While work is captured into a graph nothing can be measured either: what comes up
//! there for the first time is decided as it is afterwards. (A recording runs ordinarily before it is captured, and
//! leaves nothing for that moment.)
//!
//! Whoever has a choice to make ([`Candidates`]) keeps its outcome under a hashed key: names in words are made when a
//! choice comes up for the first time, never in a steady state.

use super::context::Context;
use super::error::CudaError;
use super::plans::{Choice, Origin, Plans};
use super::probe;
use super::recording;
use super::stopwatch::Stopwatch;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most ways among which one is chosen.
const MOST_WAYS: usize = 16;

/// Something that can be computed in several ways, to the same result up to rounding.
pub(super) trait Candidates {
    /// One way.
    type Way: Clone;

    /// What is computed, in words that tell it from everything else.
    fn key(&self) -> String;

    /// At most `most` ways, the one first that is taken where nothing is measured.
    fn ways(&mut self, most: usize) -> Result<Vec<Self::Way>, CudaError>;

    /// A way in words, for [`Candidates::restore`].
    fn name(&self, way: &Self::Way) -> String;

    /// The way of that name, if there still is one.
    fn restore(&mut self, name: &str) -> Option<Self::Way>;

    /// Enqueues the computation. Run twice, it leaves what it leaves when it is run once.
    fn run(&mut self, way: &Self::Way) -> Result<(), CudaError>;
}

/// How a choice is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// The first way that is offered.
    #[default]
    First,
    /// What the table says, else the first way.
    Known,
    /// What the table says, else the fastest way.
    Measuring,
}

/// The choices of one device.
#[derive(Debug, Default)]
pub(super) struct Tuning {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    /// The table that [`Tuner::begin`] was given; after [`Tuner::finish`] with what was chosen beyond it.
    known: BTreeMap<String, Choice>,
    /// Everything that was measured since the device was opened.
    timed: BTreeMap<String, Choice>,
    /// What came up since [`Tuner::begin`].
    used: BTreeMap<String, Choice>,
    measured: usize,
    missing: usize,
    refused: Vec<String>,
    failed: Vec<String>,
    /// How many measurements are under way, one inside of another: what only a candidate that is being measured needs
    /// is not used yet.
    depth: usize,
    stopwatch: Option<Arc<Stopwatch>>,
    warm: bool,
}

impl Tuning {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether choices are being measured.
    pub(super) fn is_measuring(&self) -> bool {
        self.state().phase == Phase::Measuring
    }

    /// The way to be taken; `None` where none is offered. Not for a steady state: callers keep the answer.
    pub(super) fn choose<C: Candidates>(
        &self,
        context: &Context,
        subject: &mut C,
    ) -> Result<Option<C::Way>, CudaError> {
        let mut phase = self.state().phase;
        if phase == Phase::First {
            return Ok(subject.ways(1)?.into_iter().next());
        }
        // What a measurement allocates would be part of a trace, and nothing can be measured in a capture.
        if recording::is_active(&context.memory) {
            phase = Phase::Known;
        }
        let key = subject.key();
        while let Some(choice) = self.known(&key) {
            if let Some(way) = subject.restore(&choice.chosen) {
                self.use_choice(key, choice);
                return Ok(Some(way));
            }
            self.refuse(&key);
        }
        if phase == Phase::Known {
            let first = subject.ways(1)?.into_iter().next();
            self.state().missing += usize::from(first.is_some());
            return Ok(first);
        }
        let ways = subject.ways(MOST_WAYS)?;
        let Some(first) = ways.first() else { return Ok(None) };
        let (way, choice) = if ways.len() == 1 {
            let chosen = subject.name(first);
            (first, Choice { chosen, candidates: 1, microseconds: None, runner_up_microseconds: None })
        } else {
            self.measure(context, subject, &ways)?
        };
        self.state().timed.insert(key.clone(), choice.clone());
        self.use_choice(key, choice);
        Ok(Some(way.clone()))
    }

    /// What the table says, or an earlier measurement.
    fn known(&self, key: &str) -> Option<Choice> {
        let state = self.state();
        let timed = || state.timed.get(key).filter(|_| state.phase == Phase::Measuring);
        state.known.get(key).or_else(timed).cloned()
    }

    /// Forgets a choice that cannot be had any more.
    fn refuse(&self, key: &str) {
        let mut state = self.state();
        state.known.remove(key);
        state.timed.remove(key);
        state.refused.push(key.to_owned());
    }

    fn use_choice(&self, key: String, choice: Choice) {
        let mut state = self.state();
        if state.depth == 0 {
            state.used.insert(key, choice);
        }
    }

    /// The fastest of several ways; among equals the one that was offered first. A way that fails is none, as long as the
    /// device goes on and another one works.
    fn measure<'w, C: Candidates>(
        &self,
        context: &Context,
        subject: &mut C,
        ways: &'w [C::Way],
    ) -> Result<(&'w C::Way, Choice), CudaError> {
        let stopwatch = self.stopwatch(context)?;
        self.state().depth += 1;
        let times = self.times(context, subject, ways, &stopwatch);
        let mut state = self.state();
        state.depth -= 1;
        let mut times = times?;
        state.measured += 1;
        drop(state);
        times.sort_by(|(_, a), (_, b)| a.total_cmp(b));
        let (fastest, microseconds) = times[0];
        let choice = Choice {
            chosen: subject.name(fastest),
            candidates: times.len(),
            microseconds: Some(microseconds),
            runner_up_microseconds: times.get(1).map(|&(_, microseconds)| microseconds),
        };
        Ok((fastest, choice))
    }

    /// The ways that work, one at least, with their microseconds.
    fn times<'w, C: Candidates>(
        &self,
        context: &Context,
        subject: &mut C,
        ways: &'w [C::Way],
        stopwatch: &Stopwatch,
    ) -> Result<Vec<(&'w C::Way, f64)>, CudaError> {
        let mut times = Vec::with_capacity(ways.len());
        let mut last = None;
        for way in ways {
            match stopwatch.microseconds(context, || subject.run(way)) {
                Ok(microseconds) => times.push((way, microseconds)),
                Err(error) => {
                    // After a fault of the device itself every later call fails, whichever way it is for.
                    if context.synchronize().is_err() {
                        return Err(error);
                    }
                    let failed = format!("{}, {}: {error}", subject.key(), subject.name(way));
                    self.state().failed.push(failed);
                    last = Some(error);
                }
            }
        }
        match last {
            Some(error) if times.is_empty() => Err(error),
            _ => Ok(times),
        }
    }

    fn stopwatch(&self, context: &Context) -> Result<Arc<Stopwatch>, CudaError> {
        let mut state = self.state();
        if let Some(stopwatch) = &state.stopwatch {
            return Ok(Arc::clone(stopwatch));
        }
        let stopwatch = Arc::new(Stopwatch::new(context)?);
        state.warm = !stopwatch.is_cold();
        state.stopwatch = Some(Arc::clone(&stopwatch));
        Ok(stopwatch)
    }
}

/// Makes a device choose, for whoever keeps its choices in a file.
#[derive(Debug)]
pub struct Tuner<'a> {
    context: &'a Context,
}

/// What came up between [`Tuner::begin`] and [`Tuner::finish`].
#[derive(Clone, Debug, PartialEq)]
pub struct Tuned {
    /// The table that was given, with what was chosen beyond it.
    pub plans: Plans,
    /// Choices that were measured.
    pub measured: usize,
    /// Choices that the table lacks and that were not measured: the first way was taken.
    pub missing: usize,
    /// Choices of the table that cuBLASLt, or this program, does not take: made anew, or the first way was taken.
    pub refused: Vec<String>,
    /// Ways that failed when they were to be measured, and that were not chosen; each with its error.
    pub failed: Vec<String>,
    /// Whether there was no memory to empty the cache with between measurements.
    pub warm: bool,
}

impl<'a> Tuner<'a> {
    pub(super) fn new(context: &'a Context) -> Self {
        Self { context }
    }

    /// The device in words.
    pub fn device(&self) -> &str {
        &self.context.device.name
    }

    /// What tables made here are good for.
    ///
    /// # Errors
    /// Those of [`probe`], which an open device has passed.
    pub fn origin(&self) -> Result<Origin, CudaError> {
        let Context { device, precision, .. } = self.context;
        Ok(Origin::new(device, probe::driver()?, probe::cublaslt()?, *precision))
    }

    /// Forgets all choices. From here on they are those of `known`; with `measure`, what it lacks is chosen by timing
    /// until [`Tuner::finish`].
    pub fn begin(&self, known: Option<&Plans>, measure: bool) {
        let mut state = self.context.tuning.state();
        *state = State {
            phase: if measure { Phase::Measuring } else { Phase::Known },
            known: known.map(|plans| plans.choices.clone()).unwrap_or_default(),
            timed: std::mem::take(&mut state.timed),
            ..State::default()
        };
        drop(state);
        self.context.products.forget();
        self.context.convolutions.forget();
    }

    /// Ends the measuring.
    ///
    /// # Errors
    /// As [`Tuner::origin`].
    pub fn finish(&self) -> Result<Tuned, CudaError> {
        let mut plans = Plans::new(self.origin()?);
        let mut state = self.context.tuning.state();
        plans.choices.clone_from(&state.known);
        plans.choices.extend(std::mem::take(&mut state.used));
        state.known.clone_from(&plans.choices);
        state.phase = Phase::Known;
        state.stopwatch = None;
        Ok(Tuned {
            plans,
            measured: state.measured,
            missing: state.missing,
            refused: std::mem::take(&mut state.refused),
            failed: std::mem::take(&mut state.failed),
            warm: state.warm,
        })
    }
}
