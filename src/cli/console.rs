//! What a person sees while the program works: progress and messages on stderr; and the way of data to stdout.

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verbosity {
    /// Warnings and errors.
    Quiet,
    /// Progress and what was decided.
    Normal,
    /// Also how it was done.
    Verbose,
}

/// Off a terminal a line of progress appears at most this often.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The stderr of one command.
#[derive(Debug)]
pub(super) struct Console {
    verbosity: Verbosity,
    terminal: bool,
}

impl Console {
    /// A console of the given verbosity.
    pub(super) fn new(verbosity: Verbosity) -> Self {
        Self { verbosity, terminal: std::io::stderr().is_terminal() }
    }

    /// A message for everyone who did not ask for quiet.
    pub(super) fn say(&self, message: impl Display) {
        if self.verbosity >= Verbosity::Normal {
            write_line(&message);
        }
    }

    /// A message for `-v`.
    pub(super) fn detail(&self, message: impl Display) {
        if self.verbosity >= Verbosity::Verbose {
            write_line(&message);
        }
    }

    /// Something the user should act on; never silenced.
    pub(super) fn warn(&self, message: impl Display) {
        write_line(&format_args!("warning: {message}"));
    }

    /// A task of `steps` steps under a bar with an ETA; lines now and then where stderr is no terminal.
    pub(super) fn task(&self, name: &str, steps: u64) -> Task<'_> {
        let shown = self.terminal && self.verbosity >= Verbosity::Normal;
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(steps), target);
        let template = "{prefix}  {bar:30} {pos}/{len}  {msg}  {eta} left";
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.set_prefix(name.to_owned());
        Task { console: self, bar, name: name.to_owned(), start: Instant::now(), logged: Instant::now() }
    }
}

/// Data for stdout. Unlike `print!`, a reader that hung up or a full disk is an error here and no panic.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write to standard output")
}

/// [`print`] of a value as indented JSON.
pub(super) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))
}

/// A write to stderr that fails (a closed pipe) is no reason to lose work.
fn write_line(message: &dyn Display) {
    let _ = writeln!(std::io::stderr(), "{message}");
}

/// Work in progress; its bar disappears when it is dropped.
pub(super) struct Task<'a> {
    console: &'a Console,
    bar: ProgressBar,
    name: String,
    start: Instant,
    logged: Instant,
}

impl Task<'_> {
    /// Sets how far the work has come, and a message beside the bar.
    pub(super) fn set(&mut self, position: u64, message: impl Into<String>) {
        self.bar.set_position(position);
        let message: String = message.into();
        if !self.console.terminal && self.logged.elapsed() >= LOG_INTERVAL {
            self.logged = Instant::now();
            let total = self.bar.length().unwrap_or(position).max(1);
            let elapsed = self.start.elapsed().as_secs_f64();
            let left = elapsed * (total.saturating_sub(position)) as f64 / position.max(1) as f64;
            self.console.say(format_args!("{}: {position}/{total}  {message}  {left:.0} s left", self.name));
        }
        self.bar.set_message(message);
    }

    /// A warning that does not tear the bar.
    pub(super) fn warn(&self, message: impl Display) {
        self.bar.suspend(|| self.console.warn(message));
    }
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
