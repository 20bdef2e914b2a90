//! Every operation's kernels under AddressSanitizer and UBSan: reads beside a buffer, misaligned packets and undefined
//! behaviour leave no trace in a result.

use crate::cusim::{Build, sanitized_child};
use crate::device::simulator;

/// In one order of threads: what a kernel touches does not depend on it.
#[test]
fn the_operations_are_clean_under_the_sanitizers() {
    if simulator().is_none() {
        return;
    }
    for filter in ["simulated_forward::", "simulated_f16::", "simulated_implicit_forward::"] {
        let mut child = sanitized_child(&Build::of_the_project(), filter).expect("the simulator is there");
        let output = child.output().unwrap();
        let said =
            [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(output.status.success(), "{said}");
        assert!(!said.contains(" 0 passed"), "nothing ran: {said}");
    }
}
