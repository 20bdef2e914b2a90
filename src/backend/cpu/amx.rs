//! Products of bfloat16 matrices on AMX tiles (Intel's Xeons from Sapphire Rapids on).
//!
//! A tile is a register of 16 rows of 64 bytes. One instruction, `tdpbf16ps`, multiplies 16 rows of 32 numbers with
//! 32 × 16 numbers and adds the products to 16 × 16 sums in `f32`: 512 multiply–accumulates a cycle, where AVX-512 does 32 in
//! `f32`. A product here keeps 32 rows × 32 columns of sums in four tiles and reads two tiles of either operand a step.
//!
//! Numbers are rounded to bfloat16, or written as the sum of two bfloat16 numbers, a high and a low part, which together keep
//! 16 bits of an `f32`'s 24. Of the product of two such sums the three larger terms are added up; the fourth is 2⁻¹⁶ of the
//! first at most, as is what the parts leave out. Intel's MKL names this `FLOAT_TO_BF16X2`.
//!
//! The operating system has to be asked once for the registers; code that was never compiled for them may use them
//! afterwards. The same product in plain Rust is the twin they are tested against.

use super::operand::{Bf16Pair, Operand};
use crate::tensor::Scalar;

/// Numbers of a step along the inner dimension: one row of a tile.
pub(super) const STEP: usize = 32;
/// The same in pairs.
pub(super) const STEP_PAIRS: usize = STEP / 2;
/// Rows of a tile.
pub(super) const TILE_ROWS: usize = 16;
/// Columns of a tile of sums.
const TILE_COLUMNS: usize = 16;
/// Rows of a product: two tiles.
pub(super) const ROWS: usize = 2 * TILE_ROWS;
/// Columns of a product: two tiles.
pub(super) const COLUMNS: usize = 2 * TILE_COLUMNS;
/// Pairs of the right matrix's high, or low, parts that a step takes: two tiles of 16 pairs × 16 columns, one after the
/// other.
pub(super) const STEP_WEIGHTS: usize = STEP_PAIRS * COLUMNS;

/// How a number is written in bfloat16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// Rounded.
    Rounded,
    /// As the sum of two.
    Split,
}

impl Written {
    /// bfloat16 numbers of a number.
    pub(super) fn parts(self) -> usize {
        match self {
            Self::Rounded => 1,
            Self::Split => 2,
        }
    }
}

/// What multiplies tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// The processor's tile unit.
    Amx,
    /// Plain Rust: what tests compare with, on any machine.
    #[cfg_attr(not(test), allow(dead_code, reason = "the twin of the tile unit, for tests"))]
    Portable,
}

/// The tile unit, if this machine has one and the operating system lends it to this process.
pub(super) fn detect() -> Option<Unit> {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    let found = linux::permitted();
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    let found = false;
    found.then_some(Unit::Amx)
}

/// Where the steps of a product find their part of the left matrix.
#[derive(Debug)]
pub(super) struct Steps {
    /// Pairs from a product's first row to the first row's part, a step each.
    offsets: Vec<usize>,
    /// Pairs from a step's high parts to its low ones, where numbers are split.
    low: Option<usize>,
    /// Pairs from a row's beginning to the end of all that it reads.
    reach: usize,
}

impl Steps {
    pub(super) fn new(offsets: Vec<usize>, low: Option<usize>) -> Self {
        let reach = offsets.iter().max().map_or(0, |offset| offset + low.unwrap_or(0) + STEP_PAIRS);
        Self { offsets, low, reach }
    }

    /// Pairs of the right matrix that a step takes.
    fn weights(&self) -> usize {
        if self.low.is_some() { 2 * STEP_WEIGHTS } else { STEP_WEIGHTS }
    }

    /// Pairs from a row's beginning to the end of all that it reads.
    pub(super) fn reach(&self) -> usize {
        self.reach
    }
}

/// The operands of one product.
pub(super) struct Product<'a, T> {
    /// The left matrix from the first row on.
    pub(super) left: &'a [Bf16Pair<T>],
    /// Pairs from one row to the next.
    pub(super) stride: usize,
    pub(super) steps: &'a Steps,
    /// `[step, part, half of the columns, pair, column]`.
    pub(super) weights: &'a [Bf16Pair<T>],
    /// Brought into the second-level cache meanwhile; may be empty.
    pub(super) ahead: &'a [Bf16Pair<T>],
}

/// The right to multiply tiles on this thread, until it is dropped.
#[derive(Debug)]
pub(super) struct Tiles {
    unit: Unit,
    /// The registers belong to a thread.
    thread: std::marker::PhantomData<*const ()>,
}

impl Tiles {
    /// Makes the thread's tile registers ready.
    pub(super) fn take(unit: Unit) -> Self {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if unit == Unit::Amx {
            linux::configure();
        }
        Self { unit, thread: std::marker::PhantomData }
    }

    /// `sums = left·weights`, `[ROWS, COLUMNS]`; of `tiles` = 1 tile of rows, the first half alone.
    pub(super) fn multiply<T: Scalar>(&self, product: &Product<'_, T>, tiles: usize, sums: &mut [T]) {
        let steps = product.steps.offsets.len();
        assert!((1..=2).contains(&tiles), "a product has one or two tiles of rows");
        assert_eq!(sums.len(), ROWS * COLUMNS, "a sum a row and column");
        assert_eq!(product.weights.len(), steps * product.steps.weights(), "weights for every step");
        let last_row = (tiles * TILE_ROWS - 1) * product.stride;
        assert!(product.left.len() >= last_row + product.steps.reach, "every row is inside the slice");
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if self.unit == Unit::Amx
            && let Ok(sums) = bytemuck::try_cast_slice_mut::<T, f32>(sums)
            && sums.len() == ROWS * COLUMNS
        {
            // SAFETY: the extents were checked above, and `take` configured this thread's tiles.
            unsafe { linux::multiply(product, tiles, sums) };
            return;
        }
        multiply(product, tiles, sums);
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if self.unit == Unit::Amx {
            linux::release();
        }
    }
}

/// The definition.
fn multiply<T: Scalar>(product: &Product<'_, T>, tiles: usize, sums: &mut [T]) {
    let steps = product.steps;
    for (row, sums) in sums.chunks_exact_mut(COLUMNS).take(tiles * TILE_ROWS).enumerate() {
        sums.fill(T::ZERO);
        for (&offset, weights) in steps.offsets.iter().zip(product.weights.chunks_exact(steps.weights())) {
            let first = row * product.stride + offset;
            let mut add = |from: usize, weights: &[Bf16Pair<T>]| {
                let left = &product.left[from..][..STEP_PAIRS];
                for (half, weights) in weights.chunks_exact(STEP_PAIRS * TILE_COLUMNS).enumerate() {
                    for (&value, weights) in left.iter().zip(weights.chunks_exact(TILE_COLUMNS)) {
                        for (sum, &weight) in sums[half * TILE_COLUMNS..].iter_mut().zip(weights) {
                            *sum += value.dot(weight);
                        }
                    }
                }
            };
            let (high_weights, low_weights) = weights.split_at(STEP_WEIGHTS);
            if let Some(low) = steps.low {
                add(first, low_weights);
                add(first + low, high_weights);
            }
            add(first, high_weights);
        }
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod linux {
    use super::{Bf16Pair, COLUMNS, Product, TILE_ROWS};
    use crate::backend::cpu::instructions::Instructions;
    use std::arch::asm;
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    use std::cell::Cell;
    use std::sync::OnceLock;

    /// Bytes of a cache line, and of a tile's row.
    const LINE: usize = 64;

    /// Whether the processor has tiles of bfloat16 and this process has the right to use them, which is asked for once.
    pub(super) fn permitted() -> bool {
        static PERMITTED: OnceLock<bool> = OnceLock::new();
        *PERMITTED.get_or_init(|| Instructions::have_bf16() && has_tiles() && request_permission())
    }

    /// CPUID's word on AMX-TILE and AMX-BF16.
    fn has_tiles() -> bool {
        const AMX_BF16: u32 = 1 << 22;
        const AMX_TILE: u32 = 1 << 24;
        let leaves = __cpuid(0).eax;
        leaves >= 7 && __cpuid_count(7, 0).edx & (AMX_BF16 | AMX_TILE) == AMX_BF16 | AMX_TILE
    }

    /// `arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)`, from Linux 5.16 on. It fails where the kernel or a hypervisor
    /// withholds the registers.
    fn request_permission() -> bool {
        const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
        const XFEATURE_XTILEDATA: libc::c_long = 18;
        // SAFETY: the call changes nothing but which registers the process may use.
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
    }

    /// What `ldtilecfg` reads: the rows and the bytes of a row of every tile.
    #[repr(C, align(64))]
    struct Configuration {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        bytes: [u16; 16],
        rows: [u8; 16],
    }

    /// Eight full tiles.
    static FULL: Configuration = {
        let (mut bytes, mut rows) = ([0; 16], [0; 16]);
        let mut tile = 0;
        while tile < 8 {
            bytes[tile] = LINE as u16;
            rows[tile] = TILE_ROWS as u8;
            tile += 1;
        }
        Configuration { palette: 1, start_row: 0, reserved: [0; 14], bytes, rows }
    };

    thread_local! {
        /// How many hold this thread's tiles.
        static HOLDERS: Cell<usize> = const { Cell::new(0) };
    }

    /// Configures the thread's tiles for their first holder.
    pub(super) fn configure() {
        let holders = HOLDERS.get();
        HOLDERS.set(holders + 1);
        if holders == 0 {
            // SAFETY: `Unit::Amx` exists only where `permitted` said yes; nothing else in the process uses tiles.
            unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const FULL, options(nostack, readonly)) };
        }
    }

    /// Gives the registers back behind the last holder: what is not in use need not be saved when threads are switched.
    pub(super) fn release() {
        let holders = HOLDERS.get() - 1;
        HOLDERS.set(holders);
        if holders == 0 {
            // SAFETY: as in `configure`.
            unsafe { asm!("tilerelease", options(nostack, nomem)) };
        }
    }

    /// # Safety
    /// This thread's tiles are configured. Every row holds what the steps read, there are weights for every step and
    /// room for all sums.
    pub(super) unsafe fn multiply<T>(product: &Product<'_, T>, tiles: usize, sums: &mut [f32]) {
        let steps = product.steps.offsets.len();
        let lines_ahead = size_of_val(product.ahead).div_ceil(LINE).div_ceil(steps);
        let pair = size_of::<Bf16Pair<T>>();
        let stride = pair * product.stride;
        /// The loop over the steps around the instructions of one.
        macro_rules! product {
            ([$($zero:literal)+], [$($step:literal)+], [$($store:literal)+] $(, low = $low:expr)?) => {
                // SAFETY: the caller's promise; what is fetched ahead need not be there.
                unsafe {
                    asm!(
                        $($zero,)+
                        "2:",
                        "mov {rows}, [{offsets}]",
                        "lea {rows}, [{left} + 4*{rows}]",
                        $($step,)+
                        "mov {line}, {lines_ahead}",
                        "test {line}, {line}",
                        "jz 4f",
                        "3:",
                        "prefetcht1 [{ahead}]",
                        "add {ahead}, 64",
                        "dec {line}",
                        "jnz 3b",
                        "4:",
                        "add {offsets}, 8",
                        "dec {steps}",
                        "jnz 2b",
                        "mov {rows}, {sums_row}",
                        $($store,)+
                        rows = out(reg) _,
                        line = out(reg) _,
                        offsets = inout(reg) product.steps.offsets.as_ptr() => _,
                        left = in(reg) product.left.as_ptr(),
                        stride = in(reg) stride,
                        weights = inout(reg) product.weights.as_ptr() => _,
                        row = in(reg) LINE,
                        ahead = inout(reg) product.ahead.as_ptr() => _,
                        lines_ahead = in(reg) lines_ahead,
                        steps = inout(reg) steps => _,
                        sums = in(reg) sums.as_mut_ptr(),
                        sums_row = const COLUMNS * size_of::<f32>(),
                        $(low = in(reg) $low,)?
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                        out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                        options(nostack),
                    );
                }
            };
        }
        // One tile of rows needs two of sums, two tiles need four: a row of tiles each. The high parts of weights are multiplied
        // last: both parts of the rows need them.
        match (tiles, product.steps.low) {
            (1, None) => product!(
                ["tilezero tmm0" "tilezero tmm1"],
                [
                    "tileloadd tmm4, [{rows} + {stride}]"
                    "tileloadd tmm6, [{weights} + {row}]"
                    "tdpbf16ps tmm0, tmm4, tmm6"
                    "tileloadd tmm7, [{weights} + {row} + 1024]"
                    "tdpbf16ps tmm1, tmm4, tmm7"
                    "add {weights}, 2048"
                ],
                [
                    "tilestored [{sums} + {rows}], tmm0"
                    "tilestored [{sums} + {rows} + 64], tmm1"
                ]
            ),
            (1, Some(low)) => product!(
                ["tilezero tmm0" "tilezero tmm1"],
                [
                    "tileloadd tmm4, [{rows} + {stride}]"
                    "tileloadd tmm6, [{weights} + {row} + 2048]"
                    "tdpbf16ps tmm0, tmm4, tmm6"
                    "tileloadd tmm7, [{weights} + {row} + 3072]"
                    "tdpbf16ps tmm1, tmm4, tmm7"
                    "tileloadd tmm6, [{weights} + {row}]"
                    "tdpbf16ps tmm0, tmm4, tmm6"
                    "tileloadd tmm7, [{weights} + {row} + 1024]"
                    "tdpbf16ps tmm1, tmm4, tmm7"
                    "add {rows}, {low}"
                    "tileloadd tmm5, [{rows} + {stride}]"
                    "tdpbf16ps tmm0, tmm5, tmm6"
                    "tdpbf16ps tmm1, tmm5, tmm7"
                    "add {weights}, 4096"
                ],
                [
                    "tilestored [{sums} + {rows}], tmm0"
                    "tilestored [{sums} + {rows} + 64], tmm1"
                ],
                low = pair * low
            ),
            (_, None) => product!(
                ["tilezero tmm0" "tilezero tmm1" "tilezero tmm2" "tilezero tmm3"],
                [
                    "tileloadd tmm4, [{rows} + {stride}]"
                    "tileloadd tmm6, [{weights} + {row}]"
                    "tdpbf16ps tmm0, tmm4, tmm6"
                    "tileloadd tmm7, [{weights} + {row} + 1024]"
                    "tdpbf16ps tmm1, tmm4, tmm7"
                    // The other half of the rows lies sixteen further.
                    "lea {rows}, [{rows} + 8*{stride}]"
                    "lea {rows}, [{rows} + 8*{stride}]"
                    "tileloadd tmm5, [{rows} + {stride}]"
                    "tdpbf16ps tmm2, tmm5, tmm6"
                    "tdpbf16ps tmm3, tmm5, tmm7"
                    "add {weights}, 2048"
                ],
                [
                    "tilestored [{sums} + {rows}], tmm0"
                    "tilestored [{sums} + {rows} + 64], tmm1"
                    "tilestored [{sums} + {rows} + 2048], tmm2"
                    "tilestored [{sums} + {rows} + 2112], tmm3"
                ]
            ),
            // Each sum takes the terms of a step in the same order as above: which rows are multiplied together changes no bit.
            (_, Some(low)) => product!(
                ["tilezero tmm0" "tilezero tmm1" "tilezero tmm2" "tilezero tmm3"],
                [
                    "tileloadd tmm4, [{rows} + {stride}]"
                    "tileloadd tmm6, [{weights} + {row} + 2048]"
                    "tdpbf16ps tmm0, tmm4, tmm6"
                    "tileloadd tmm7, [{weights} + {row} + 3072]"
                    "tdpbf16ps tmm1, tmm4, tmm7"
                    "lea {line}, [{rows} + 8*{stride}]"
                    "lea {line}, [{line} + 8*{stride}]"
                    "tileloadd tmm5, [{line} + {stride}]"
                    "tdpbf16ps tmm2, tmm5, tmm6"
                    "tdpbf16ps tmm3, tmm5, tmm7"
                    "tileloadd tmm6, [{weights} + {row}]"
                    "tdpbf16ps tmm0, tmm4, tmm6"
                    "tdpbf16ps tmm2, tmm5, tmm6"
                    "tileloadd tmm7, [{weights} + {row} + 1024]"
                    "tdpbf16ps tmm1, tmm4, tmm7"
                    "tdpbf16ps tmm3, tmm5, tmm7"
                    "add {rows}, {low}"
                    "add {line}, {low}"
                    "tileloadd tmm4, [{rows} + {stride}]"
                    "tdpbf16ps tmm0, tmm4, tmm6"
                    "tdpbf16ps tmm1, tmm4, tmm7"
                    "tileloadd tmm5, [{line} + {stride}]"
                    "tdpbf16ps tmm2, tmm5, tmm6"
                    "tdpbf16ps tmm3, tmm5, tmm7"
                    "add {weights}, 4096"
                ],
                [
                    "tilestored [{sums} + {rows}], tmm0"
                    "tilestored [{sums} + {rows} + 64], tmm1"
                    "tilestored [{sums} + {rows} + 2048], tmm2"
                    "tilestored [{sums} + {rows} + 2112], tmm3"
                ],
                low = pair * low
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::philox::{Philox, Stream};
    use crate::tensor::relative_error;

    /// One tile of rows and two, few steps and many, in any order, of rounded numbers and of split ones: against sums in
    /// `f64` of the same numbers.
    #[test]
    fn products_equal_the_definition() {
        let philox = Philox::new(3, Stream::Initialisation, 0);
        let pairs = |len: usize, from: u64| -> Vec<[f32; 2]> {
            (0..len as u64)
                .map(|i| [0, 1].map(|half| philox.uniform(from + 2 * i + half) as f32 - 0.5))
                .collect()
        };
        let units = [Some(Unit::Portable), detect()];
        if detect().is_none() {
            println!("this machine has no AMX: plain Rust alone is tested");
        }
        let many = || (0..40).map(|i| 16 * i).collect();
        for (offsets, low, stride) in [
            (vec![0], None, 16),
            (vec![48, 0, 16], None, 80),
            (many(), None, 648),
            (vec![0], Some(16), 32),
            (vec![48, 0, 16], Some(64), 144),
            (many(), Some(640), 1288),
        ] {
            let steps = Steps::new(offsets, low);
            let left = pairs(ROWS * stride + steps.reach(), 0);
            let weights = pairs(steps.offsets.len() * steps.weights(), 1 << 20);
            let as_f64 = |pairs: &[[f32; 2]]| -> Vec<Bf16Pair<f64>> {
                pairs.iter().map(|pair| Bf16Pair::of(&pair.map(f64::from))).collect()
            };
            let as_f32 = |pairs: &[[f32; 2]]| -> Vec<Bf16Pair<f32>> {
                pairs.iter().map(|pair| Bf16Pair::of(pair)).collect()
            };
            let mut expected = vec![0.0; ROWS * COLUMNS];
            let (left_f64, weights_f64) = (as_f64(&left), as_f64(&weights));
            let product =
                Product { left: &left_f64, stride, steps: &steps, weights: &weights_f64, ahead: &[] };
            Tiles::take(Unit::Portable).multiply(&product, 2, &mut expected);
            // One sum by hand, so that the twin itself is no mistake: row 17, column 30.
            let by_hand: f64 = (0..steps.offsets.len() * STEP_PAIRS)
                .map(|k| {
                    let (step, pair) = (k / STEP_PAIRS, k % STEP_PAIRS);
                    let weight = step * steps.weights() + (STEP_PAIRS + pair) * TILE_COLUMNS + 14;
                    let left = 17 * stride + steps.offsets[step] + pair;
                    let parts = low.map_or(0.0, |low| {
                        left_f64[left].dot(weights_f64[weight + STEP_WEIGHTS])
                            + left_f64[left + low].dot(weights_f64[weight])
                    });
                    left_f64[left].dot(weights_f64[weight]) + parts
                })
                .sum();
            assert!((expected[17 * COLUMNS + 30] - by_hand).abs() < 1e-9);

            let (left, weights) = (as_f32(&left), as_f32(&weights));
            for unit in units.into_iter().flatten() {
                let tiles = Tiles::take(unit);
                let mut first_tiles = Vec::new();
                for (count, ahead) in [(1, &[][..]), (2, &weights[..])] {
                    let product = Product { left: &left, stride, steps: &steps, weights: &weights, ahead };
                    let mut sums = vec![f32::NAN; ROWS * COLUMNS];
                    // A second holder that leaves first must not take the tiles away.
                    drop(Tiles::take(unit));
                    tiles.multiply(&product, count, &mut sums);
                    first_tiles.push(sums[..TILE_ROWS * COLUMNS].to_vec());
                    let (out, rest) = sums.split_at(count * TILE_ROWS * COLUMNS);
                    // The products are exact in f32; up to 3840 sums of either sign are rounded by 2⁻²⁴.
                    let error = relative_error(out, &expected[..out.len()]);
                    assert!(error < 2e-6, "{unit:?}, {count} tiles, {steps:?}: {error:.1e}");
                    assert!(
                        rest.iter().all(|sum| sum.is_nan()),
                        "{unit:?} wrote rows that were not asked for"
                    );
                }
                assert_eq!(
                    first_tiles[0], first_tiles[1],
                    "{unit:?}: a row's sums depend on the rows beside it"
                );
            }
        }
    }
}
