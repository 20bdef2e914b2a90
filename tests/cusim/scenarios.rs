//! What runs in a child of this program: because it ends the process, or because the machine has to be another one.

use std::process::{Command, Output};

use crate::world::simulator;

/// Names the scenario that a child plays.
const SCENARIO: &str = "CUSIM_TEST_SCENARIO";

/// The child's side: every scenario by its name.
#[test]
fn play() {
    let Ok(wanted) = std::env::var(SCENARIO) else { return };
    let all = crate::faults::SCENARIOS.iter().chain(crate::machines::SCENARIOS);
    let found: Vec<_> = all.filter(|(name, _)| *name == wanted).collect();
    let &[(_, scenario)] = found.as_slice() else { panic!("{} scenarios are called {wanted}", found.len()) };
    scenario();
    println!("{wanted} came to its end");
}

/// A function by its name.
pub(crate) type Scenario = (&'static str, fn());

/// A child that will play a scenario; `None` where the simulator cannot be built.
pub(crate) fn child(scenario: &str) -> Option<Command> {
    Some(of(simulator()?.child("scenarios::play"), scenario))
}

/// Makes a child of this program play a scenario.
pub(crate) fn of(mut child: Command, scenario: &str) -> Command {
    child.env(SCENARIO, scenario);
    child
}

/// What a child wrote, on either stream.
pub(crate) fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}
