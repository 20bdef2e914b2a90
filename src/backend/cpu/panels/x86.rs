//! The products' inner loops for AVX-512, with and without bfloat16, and for AVX2.

use super::{Finish, PANEL, Residual, Rows, Store};
use crate::backend::cpu::instructions::Instructions;
use crate::backend::cpu::operand::{Bf16Pair, Operand};
use crate::tensor::Scalar;
use std::any::TypeId;
use std::arch::x86_64::*;

/// How far ahead of the multiplications weights are fetched from the second-level cache.
const NEAR_BY: usize = 8 * PANEL;
/// Elements of a cache line.
const LINE: usize = 16;
/// The same in bytes.
const LINE_BYTES: usize = 64;

/// `store = rows·panel`; `false` if there is no loop for such operands. All columns exist. Meanwhile what lies
/// `ahead` is fetched.
///
/// # Safety
/// The machine has `instructions`, and AVX512-BF16 if the operands are pairs; every row holds as many elements as the
/// panel has rows; the destination and what finishes it hold `rows.count` rows.
pub(super) unsafe fn multiply<O: Operand>(
    instructions: Instructions,
    rows: Rows<'_, O>,
    panel: &[O],
    ahead: [&[O]; 2],
    store: &Store<'_, O::Sum>,
) -> bool {
    let depth = panel.len() / PANEL;
    let element = TypeId::of::<O>();
    if element != TypeId::of::<f32>() && element != TypeId::of::<Bf16Pair<f32>>() {
        return false;
    }
    // Either operand's sums are `f32`: the casts below change no type.
    let to = Target {
        out: store.out.cast(),
        stride: store.stride,
        finish: store.finish.as_ref().map(|Finish { bias, residual, floor }| TargetFinish {
            bias: bias.as_ptr().cast(),
            residual: match residual {
                Residual::None => None,
                Residual::Of(residual) => Some(residual.as_ptr().cast()),
                Residual::InPlace => Some(store.out.cast_const().cast()),
            },
            floor: floor.to_f32(),
        }),
    };
    let row =
        Row { stride: rows.stride, runs: rows.runs, run: depth / rows.runs, run_stride: rows.run_stride };
    /// Calls a loop that is compiled for the number of rows.
    macro_rules! by_rows {
        ($kernel:ident, $near:literal, $ahead:expr, $part:expr, [$($n:literal)+]) => {
            match $part {
                $(($n, rows, panel, to) => $kernel::<$n, _, $near>(rows.cast(), row, panel.cast(), $ahead, to),)+
                (count, ..) => unreachable!("no loop takes {count} rows"),
            }
        };
    }
    // SAFETY: the caller's promise, for AVX2 a part of the rows and of the columns at a time.
    unsafe {
        match instructions {
            Instructions::Avx512 => {
                let ahead = ahead.map(|ahead| Ahead::new(ahead, panel, depth));
                let all = (rows.count, rows.data.as_ptr(), panel.as_ptr(), to);
                if element == TypeId::of::<f32>() {
                    by_rows!(avx512_f32, true, ahead, all, [1 2 3 4 5 6 7 8 9 10 11 12 13 14]);
                } else if Instructions::have_bf16() {
                    by_rows!(avx512_pairs, true, ahead, all, [1 2 3 4 5 6 7 8 9 10 11 12 13 14]);
                } else {
                    return false;
                }
            }
            Instructions::Avx2 if element == TypeId::of::<f32>() => {
                let parts = rows.count.div_ceil(AVX2_PART);
                // Each half of the panel fetches one of the two that lie ahead.
                for (half, ahead) in ahead.into_iter().enumerate() {
                    let (column, panel_half) =
                        (half * PANEL / 2, panel.as_ptr().add(half * depth * PANEL / 2));
                    let mut next = Ahead::new(ahead, panel, parts * depth);
                    for part in 0..parts {
                        let first = rows.count * part / parts;
                        let count = rows.count * (part + 1) / parts - first;
                        let data = rows.data.as_ptr().add(first * rows.stride);
                        let at = (count, data, panel_half, to.at(first, column));
                        // Loads are what there are too few of: the first rows bring the half of the panel, which the others find
                        // in the first-level cache, or in the second if it is long.
                        match (part == 0 || depth > AVX2_NEAR_DEPTH, ahead.is_empty()) {
                            (true, false) => by_rows!(avx2_f32, true, [next], at, [1 2 3 4 5 6]),
                            (true, true) => by_rows!(avx2_f32, true, [], at, [1 2 3 4 5 6]),
                            (false, false) => by_rows!(avx2_f32, false, [next], at, [1 2 3 4 5 6]),
                            (false, true) => by_rows!(avx2_f32, false, [], at, [1 2 3 4 5 6]),
                        }
                        next = next.after(depth);
                    }
                }
            }
            _ => return false,
        }
    }
    true
}

/// Rows that AVX2 takes together: 6 rows of two vectors leave four of its 16 registers for the operands.
pub(super) const AVX2_PART: usize = 6;
/// Rows of half a panel that stay in the first-level cache while others are multiplied with it: 16 KB of 32.
const AVX2_NEAR_DEPTH: usize = 256;

/// What all rows have in common.
#[derive(Clone, Copy)]
struct Row {
    /// Elements from one row to the next.
    stride: usize,
    /// Runs of a row.
    runs: usize,
    /// Elements of a run.
    run: usize,
    /// Elements from one run to the next.
    run_stride: usize,
}

/// What is fetched during a product: a line at every step at most, evenly, as memory takes no more than so many at a time.
#[derive(Clone, Copy)]
struct Ahead {
    first: *const i8,
    /// Bytes from one step to the next.
    step: usize,
}

impl Ahead {
    /// What lies `ahead`, in so many steps; if that is nothing, a line of `panel`, which is there already.
    fn new<O>(ahead: &[O], panel: &[O], steps: usize) -> Self {
        if ahead.is_empty() {
            return Self { first: panel.as_ptr().cast(), step: 0 };
        }
        let step = size_of_val(ahead).div_ceil(steps).min(LINE_BYTES);
        Self { first: ahead.as_ptr().cast(), step }
    }

    /// What is left behind so many steps.
    fn after(self, steps: usize) -> Self {
        Self { first: self.first.wrapping_add(steps * self.step), ..self }
    }
}

/// [`Store`] in pointers.
#[derive(Clone, Copy)]
struct Target {
    out: *mut f32,
    stride: usize,
    finish: Option<TargetFinish>,
}

#[derive(Clone, Copy)]
struct TargetFinish {
    bias: *const f32,
    residual: Option<*const f32>,
    floor: f32,
}

impl Target {
    /// The same from another row and column on.
    ///
    /// # Safety
    /// There are such.
    unsafe fn at(mut self, row: usize, column: usize) -> Self {
        let offset = row * self.stride + column;
        // SAFETY: the caller's promise.
        unsafe {
            self.out = self.out.add(offset);
            if let Some(finish) = &mut self.finish {
                finish.bias = finish.bias.add(column);
                finish.residual = finish.residual.map(|residual| residual.add(offset));
            }
        }
        self
    }
}

/// Operations of AVX-512 on `f32`.
macro_rules! avx512 {
    (zero) => {
        _mm512_setzero_ps()
    };
    (splat $value:expr) => {
        _mm512_set1_ps($value)
    };
    (load $from:expr) => {
        _mm512_loadu_ps($from)
    };
    (multiply_add $value:expr, $weights:expr, $sums:expr) => {
        _mm512_fmadd_ps($value, $weights, $sums)
    };
    (add $a:expr, $b:expr) => {
        _mm512_add_ps($a, $b)
    };
    (max $a:expr, $b:expr) => {
        _mm512_max_ps($a, $b)
    };
    (store $to:expr, $value:expr) => {
        _mm512_storeu_ps($to, $value)
    };
}

/// Operations of AVX512-BF16 on pairs.
macro_rules! avx512_bf16 {
    (splat $value:expr) => {
        bf16(_mm512_set1_epi32($value.bits() as i32))
    };
    (load $from:expr) => {
        bf16(_mm512_loadu_si512($from.cast()))
    };
    (multiply_add $value:expr, $weights:expr, $sums:expr) => {
        _mm512_dpbf16_ps($sums, $value, $weights)
    };
}

/// Operations of AVX2 on `f32`.
macro_rules! avx2 {
    (zero) => {
        _mm256_setzero_ps()
    };
    (splat $value:expr) => {
        _mm256_set1_ps($value)
    };
    (load $from:expr) => {
        _mm256_loadu_ps($from)
    };
    (multiply_add $value:expr, $weights:expr, $sums:expr) => {
        _mm256_fmadd_ps($value, $weights, $sums)
    };
    (add $a:expr, $b:expr) => {
        _mm256_add_ps($a, $b)
    };
    (max $a:expr, $b:expr) => {
        _mm256_max_ps($a, $b)
    };
    (store $to:expr, $value:expr) => {
        _mm256_storeu_ps($to, $value)
    };
}

/// The bits as the type that `vdpbf16ps` takes.
#[inline]
#[target_feature(enable = "avx512f")]
fn bf16(bits: __m512i) -> __m512bh {
    // SAFETY: both are 64 bytes, and every value of them is one.
    unsafe { std::mem::transmute::<__m512i, __m512bh>(bits) }
}

/// One loop: two vectors of `$lanes` columns, `R` rows, operands of `$operands` and sums of `$sums`. With `NEAR` weights are
/// brought from the second-level cache before they are read.
macro_rules! kernel {
    ($name:ident, $features:literal, $operand:ty, $lanes:literal, $operands:ident, $sums:ident) => {
        /// # Safety
        /// As [`multiply`], for `R` rows.
        #[target_feature(enable = $features)]
        unsafe fn $name<const R: usize, const AHEAD: usize, const NEAR: bool>(
            mut rows: *const $operand,
            row: Row,
            mut panel: *const $operand,
            mut ahead: [Ahead; AHEAD],
            to: Target,
        ) {
            // SAFETY: the caller's promise bounds every access; what is fetched ahead need not be there.
            unsafe {
                // It comes from afar, and only behind the loop.
                if let Some(TargetFinish { residual: Some(residual), .. }) = to.finish {
                    for row in 0..R {
                        for line in (0..2 * $lanes).step_by(LINE) {
                            let residual = residual.wrapping_add(row * to.stride + line);
                            _mm_prefetch::<_MM_HINT_T0>(residual.cast());
                        }
                    }
                }
                let mut sums = [[$sums!(zero); 2]; R];
                for _ in 0..row.runs {
                    for k in 0..row.run {
                        let weights = panel.add(k * 2 * $lanes);
                        if NEAR {
                            for line in (0..2 * $lanes).step_by(LINE) {
                                _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(NEAR_BY + line).cast());
                            }
                        }
                        for Ahead { first, step } in ahead {
                            _mm_prefetch::<_MM_HINT_T1>(first.wrapping_add(k * step));
                        }
                        let weights = [$operands!(load weights), $operands!(load weights.add($lanes))];
                        for i in 0..R {
                            let value = $operands!(splat *rows.add(i * row.stride + k));
                            for half in 0..2 {
                                sums[i][half] =
                                    $operands!(multiply_add value, weights[half], sums[i][half]);
                            }
                        }
                    }
                    rows = rows.wrapping_add(row.run_stride);
                    panel = panel.wrapping_add(row.run * 2 * $lanes);
                    for ahead in &mut ahead {
                        *ahead = ahead.after(row.run);
                    }
                }
                for (half, column) in [0, $lanes].into_iter().enumerate() {
                    for row in 0..R {
                        let at = row * to.stride + column;
                        let mut sum = sums[row][half];
                        if let Some(finish) = &to.finish {
                            sum = $sums!(add sum, $sums!(load finish.bias.add(column)));
                            if let Some(residual) = finish.residual {
                                sum = $sums!(add sum, $sums!(load residual.add(at)));
                            }
                            // In this order a NaN in the sum is what remains.
                            sum = $sums!(max $sums!(splat finish.floor), sum);
                        }
                        $sums!(store to.out.add(at), sum);
                    }
                }
            }
        }
    };
}

kernel!(avx512_f32, "avx512f", f32, 16, avx512, avx512);
kernel!(avx512_pairs, "avx512f,avx512bf16", Bf16Pair<f32>, 16, avx512_bf16, avx512);
// One half of a panel's columns.
kernel!(avx2_f32, "avx2,fma", f32, 8, avx2, avx2);
