//! What the assembler (`ptxas -v`) says about the resources that each kernel uses.

/// The resources of one function on one architecture.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Usage {
    /// The kernel's name; or the mangled name of a function that was not inlined into its kernels.
    pub(crate) function: String,
    /// `sm_80`
    pub(crate) architecture: String,
    /// Registers a thread; `None` for a function that was not inlined, whose kernel's figure includes them.
    pub(crate) registers: Option<u32>,
    /// Bytes of static shared memory a block.
    pub(crate) shared: u32,
    /// Bytes of stack a thread.
    pub(crate) stack: u32,
    /// Bytes a thread writes to memory because the registers did not suffice.
    pub(crate) spill_stores: u32,
    /// Bytes it reads back.
    pub(crate) spill_loads: u32,
}

impl Usage {
    /// Whether anything lies in memory that should be in registers: because they did not suffice, or in an array whose
    /// index is not known when the kernel is compiled.
    pub(crate) fn spills(&self) -> bool {
        self.stack > 0 || self.spill_stores > 0 || self.spill_loads > 0
    }
}

/// Splits what nvcc printed into the resources, and the lines that are about something else: warnings.
pub(crate) fn parse(log: &str) -> (Vec<Usage>, Vec<String>) {
    let mut usages: Vec<Usage> = Vec::new();
    let mut others: Vec<String> = Vec::new();
    let mut architecture = "";
    for line in log.lines() {
        let info = line.strip_prefix("ptxas info").map(|rest| rest.trim_start_matches([' ', ':']));
        if let Some(rest) = info.and_then(|info| info.strip_prefix("Compiling entry function ")) {
            architecture = quoted(rest, 1);
            usages.push(usage(quoted(rest, 0), architecture));
        } else if let Some(function) = info.and_then(|info| info.strip_prefix("Function properties for ")) {
            if usages.last().is_none_or(|last| last.function != function) {
                usages.push(usage(function, architecture));
            }
        } else if let (Some(last), true) = (usages.last_mut(), line.contains(" bytes stack frame, ")) {
            last.stack = before(line, " bytes stack frame").unwrap_or(0);
            last.spill_stores = before(line, " bytes spill stores").unwrap_or(0);
            last.spill_loads = before(line, " bytes spill loads").unwrap_or(0);
        } else if let (Some(last), Some(info)) =
            (usages.last_mut(), info.filter(|info| info.starts_with("Used ")))
        {
            last.registers = before(info, " registers");
            last.shared = before(info, " bytes smem").unwrap_or(0);
        } else if info.is_none_or(|info| !info.contains(" bytes gmem") && !info.starts_with("Compile time")) {
            // The front end says the same for every architecture.
            if !line.trim().is_empty() && !others.iter().any(|other| other == line) {
                others.push(line.to_owned());
            }
        }
    }
    (usages, others)
}

fn usage(function: &str, architecture: &str) -> Usage {
    Usage {
        function: function.to_owned(),
        architecture: architecture.to_owned(),
        registers: None,
        shared: 0,
        stack: 0,
        spill_stores: 0,
        spill_loads: 0,
    }
}

/// The text in the `index`th pair of single quotes.
fn quoted(text: &str, index: usize) -> &str {
    text.split('\'').nth(2 * index + 1).unwrap_or_default()
}

/// The number in front of `unit`.
fn before(line: &str, unit: &str) -> Option<u32> {
    line.split_once(unit)?.0.rsplit(' ').next()?.parse().ok()
}
