//! How much host memory the program needed.

use std::fs;

/// Forgets the peak so far, where the system can do that; elsewhere a peak is that of the whole run.
pub(super) fn reset_peak() {
    // Linux: 5 resets VmHWM (proc_pid_clear_refs(5)). Not every container allows it, and then nothing is lost but
    // that the peak includes what came before.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// The largest resident set since [`reset_peak`], in bytes; `None` where the system has no `/proc`.
pub(super) fn peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_peak_holds_what_was_touched() {
        const BYTES: usize = 64 << 20;
        let touched = std::hint::black_box(vec![1u8; BYTES]);
        assert!(peak().unwrap() >= touched.len() as u64);
    }
}
