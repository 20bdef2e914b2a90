//! How lines and panels are cut into tasks.

/// Bytes of a task's inputs that leave room for weights in a core's second-level cache of two megabytes.
pub(super) const RESIDENT_BYTES: usize = 1 << 20;
/// Tasks a thread: enough that all finish together.
const TASKS_PER_THREAD: usize = 4;
/// Multiplications of a task at least: enough that starting it costs nothing beside it.
const TASK_PRODUCTS: usize = 8 << 20;
/// What writing a byte of rows costs beside reading a byte: the numbers it is made of are as long or twice as long, and it is
/// written.
const WRITING: usize = 3;

/// What decides how lines and panels are cut into tasks. Results do not: a sum's order is its steps'.
pub(super) struct Cut {
    pub(super) images: usize,
    /// Lines of an image, and those that a task reads beside its own.
    pub(super) lines: usize,
    pub(super) more_lines: usize,
    /// Bytes of a line's rows.
    pub(super) line_bytes: usize,
    /// Multiplications of a line with one panel.
    pub(super) line_products: usize,
    pub(super) panels: usize,
    pub(super) weight_bytes: usize,
    /// Lines of a task come in multiples of this.
    pub(super) multiple: usize,
}

impl Cut {
    /// Lines and panels of a task. Every task of a block of lines reads its part of the weights, every task of a group of
    /// panels the rows of its lines: of the cuts into enough tasks for all threads that whose tasks move the fewest bytes.
    pub(super) fn best(&self, threads: usize) -> (usize, usize) {
        let fitting = (RESIDENT_BYTES / self.line_bytes).saturating_sub(self.more_lines);
        let most =
            (fitting / self.multiple * self.multiple).clamp(self.multiple, self.lines.max(self.multiple));
        let wanted = TASKS_PER_THREAD * threads;
        let cuts = (self.lines.div_ceil(most)..=wanted.max(self.lines.div_ceil(most))).map(|blocks| {
            let lines = self.lines.div_ceil(blocks).next_multiple_of(self.multiple);
            let blocks = self.images * self.lines.div_ceil(lines);
            let fewest = TASK_PRODUCTS.div_ceil(self.line_products * lines);
            let groups = wanted.div_ceil(blocks).min(self.panels.div_ceil(fewest)).clamp(1, self.panels);
            let rows = blocks * (lines + self.more_lines) * self.line_bytes;
            // One group writes the rows of its lines for itself, several read what was written before.
            let moved = if groups == 1 { WRITING * rows } else { (WRITING + groups) * rows };
            (blocks * self.weight_bytes + moved, lines, self.panels.div_ceil(groups))
        });
        let (_, lines, panels) = cuts.min().unwrap_or((0, self.lines, self.panels));
        (lines, panels)
    }
}
